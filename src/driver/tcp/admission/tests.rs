use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn admission() -> Admission {
    Admission::new(Instant::now(), Gate::default(), [7; 32])
}

#[test]
fn an_address_has_a_limit_until_its_connections_are_websockets() {
    let mut admission = admission();
    let mut admitted: Vec<_> =
        (0..UNJOINED_PER_ADDRESS).map(|_| admission.admit(ip("192.0.2.1")).expect("room")).collect();
    assert_eq!(admission.admit(ip("192.0.2.1")), Err(Status::TooManyRequests));
    assert!(admission.admit(ip("192.0.2.2")).is_ok(), "others are not affected");
    admission.upgrade(&mut admitted[0]);
    let last = admission.admit(ip("192.0.2.1")).expect("room again");
    assert_eq!(admission.admit(ip("192.0.2.1")), Err(Status::TooManyRequests));
    admission.release(last);
    assert!(admission.admit(ip("192.0.2.1")).is_ok());
}

#[test]
fn a_customer_of_ipv6_is_one_address() {
    let mut admission = admission();
    for number in 0..UNJOINED_PER_ADDRESS {
        admission.admit(ip(&format!("2001:db8::{number:x}"))).expect("room");
    }
    assert_eq!(admission.admit(ip("2001:db8::ffff:1")), Err(Status::TooManyRequests));
    assert!(admission.admit(ip("2001:db8:0:1::1")).is_ok());
}

#[test]
fn the_server_has_a_limit_that_loopback_has_too() {
    let mut admission = admission();
    let admitted: Vec<_> = (0..CONNECTIONS).map(|_| admission.admit(ip("127.0.0.1")).expect("room")).collect();
    assert_eq!(admission.admit(ip("127.0.0.1")), Err(Status::ServiceUnavailable));
    let refused: Vec<_> = (0..REFUSED).map(|_| admission.crowd_out(ip("127.0.0.1")).expect("told so")).collect();
    assert_eq!(admission.crowd_out(ip("127.0.0.1")), None);
    assert_eq!(admission.counters.crowded, REFUSED as u64 + 1, "who is not told is counted too");
    admitted.into_iter().chain(refused).for_each(|one| admission.release(one));
    assert_eq!((admission.open, admission.refused.all, admission.http.all), (0, 0, 0));
    assert!(admission.refused.by_network.is_empty() && admission.http.by_network.is_empty());
}

#[test]
fn a_hundred_players_of_one_address_get_a_handshake_at_once_and_a_flood_gets_none() {
    let start = Instant::now();
    let mut admission = admission();
    let at_once = |admission: &mut Admission, now, ip: &str| {
        admission.pace_handshake(now, self::ip(ip)).map(|wait| wait.as_millis())
    };
    for number in 0..100 {
        assert_eq!(at_once(&mut admission, start, &format!("2001:db8::{number:x}")), Some(0));
    }
    let flood: Vec<_> = (0..10_000).map(|_| at_once(&mut admission, start, "192.0.2.1")).collect();
    let served = flood.iter().filter(|wait| **wait == Some(0)).count();
    let waiting = flood.iter().filter(|wait| wait.is_some_and(|ms| ms > 0)).count();
    assert_eq!((served, waiting), (160, 64), "in turn, in the two seconds that follow");
    assert!(flood.iter().flatten().is_sorted() && flood.iter().flatten().all(|&ms| ms <= 2_000));
    assert_eq!(at_once(&mut admission, start, "192.0.2.2"), Some(0), "others are not affected");
    assert_eq!(at_once(&mut admission, start, "127.0.0.1"), Some(0));
    let later = start + Duration::from_secs(10);
    assert_eq!(at_once(&mut admission, later, "192.0.2.1"), Some(0), "the flood is over");
}

#[test]
fn a_proxy_may_open_as_many_connections_as_it_has_players() {
    let proxies = vec!["192.0.2.0/24".parse().expect("a network")];
    let mut admission = Admission::new(Instant::now(), Gate::new(Vec::new(), proxies, &[]), [7; 32]);
    for _ in 0..10_000 {
        assert_eq!(admission.pace_handshake(Instant::now(), ip("192.0.2.1")), Some(Duration::ZERO));
    }
}

#[test]
fn an_address_that_is_refused_leaves_others_a_chance_to_learn_why() {
    let mut admission = admission();
    let refused: Vec<_> = (0..REFUSED).map_while(|_| admission.crowd_out(ip("192.0.2.1"))).collect();
    assert_eq!(refused.len(), UNJOINED_PER_ADDRESS);
    let other = admission.crowd_out(ip("192.0.2.2")).expect("told so");
    refused.into_iter().chain([other]).for_each(|one| admission.release(one));
    assert!(admission.crowd_out(ip("192.0.2.1")).is_some());
}

#[test]
fn a_full_server_keeps_its_operators_and_their_crowd_is_limited() {
    let mut admission = admission();
    admission.set_places(0);
    assert_eq!(admission.admit(ip("203.0.113.7")), Err(Status::ServiceUnavailable));
    let admitted: Vec<Admitted> = (0..OPERATORS).map(|_| admission.admit_operator(Role::Metrics).unwrap()).collect();
    assert_eq!(admission.admit_operator(Role::Metrics), None);
    let admin = admission.admit_operator(Role::Admin).expect("scrapers don't take its places");
    for one in admitted {
        admission.release(one);
    }
    assert!(admission.admit_operator(Role::Metrics).is_some());
    admission.release(admin);
    assert_eq!((admission.admin, admission.metrics, admission.open), (0, 1, 0));
}
