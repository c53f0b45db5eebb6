use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn an_address_has_a_limit_until_its_connections_are_websockets() {
    let mut admission = Admission::new(Gate::default());
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
    let mut admission = Admission::new(Gate::default());
    for number in 0..UNJOINED_PER_ADDRESS {
        admission.admit(ip(&format!("2001:db8::{number:x}"))).expect("room");
    }
    assert_eq!(admission.admit(ip("2001:db8::ffff:1")), Err(Status::TooManyRequests));
    assert!(admission.admit(ip("2001:db8:0:1::1")).is_ok());
}

#[test]
fn the_server_has_a_limit_that_loopback_has_too() {
    let mut admission = Admission::new(Gate::default());
    let admitted: Vec<_> = (0..CONNECTIONS).map(|_| admission.admit(ip("127.0.0.1")).expect("room")).collect();
    assert_eq!(admission.admit(ip("127.0.0.1")), Err(Status::ServiceUnavailable));
    let refused: Vec<_> = (0..REFUSED).map(|_| admission.crowd_out().expect("told so")).collect();
    assert_eq!(admission.crowd_out(), None);
    assert_eq!(admission.counters.crowded, REFUSED as u64 + 1, "who is not told is counted too");
    admitted.into_iter().chain(refused).for_each(|one| admission.release(one));
    assert_eq!((admission.open, admission.refused, admission.http.len()), (0, 0, 0));
}
