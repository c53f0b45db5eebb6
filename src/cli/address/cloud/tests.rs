use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc::{self, Receiver};

use super::*;

/// The request line, and the headers that matter.
type Request = (String, Vec<String>);

/// A metadata service on this machine. `answer` writes to a request whatever it wants to.
fn service(answer: impl Fn(&Request, &mut TcpStream) + Send + 'static) -> (SocketAddr, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let Some(first) = lines.next() else { continue };
            let headers = lines.take_while(|line| !line.is_empty());
            let request = (first, headers.filter(|line| line.starts_with(['M', 'X'])).collect());
            answer(&request, &mut stream);
            // Whoever has asked may be gone.
            let _ = sender.send(request);
        }
    });
    (address, requests)
}

fn respond(stream: &mut TcpStream, status: u16, body: &str) {
    let head = format!("HTTP/1.1 {status} Any\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(format!("{head}{body}").as_bytes());
}

/// What is asked for, the headers that it takes, and the answer.
type Path = (&'static str, &'static [&'static str], &'static str);

/// A service that knows these paths and no others.
fn knows(paths: &'static [Path]) -> SocketAddr {
    let answer = move |(line, headers): &Request, stream: &mut TcpStream| {
        let asked = |(path, needed, _): &&Path| {
            *line == format!("{path} HTTP/1.1") && needed.iter().all(|header| headers.iter().any(|is| is == header))
        };
        match paths.iter().find(asked) {
            Some((_, _, body)) => respond(stream, 200, body),
            None => respond(stream, 404, "<html>Not Found 203.0.113.1</html>"),
        }
    };
    service(answer).0
}

#[test]
fn each_cloud_is_asked_as_it_wants_to_be() {
    const AZURE: &str = "GET /metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress\
        ?api-version=2021-02-01&format=text";
    const BALANCER: &str = "GET /metadata/loadbalancer?api-version=2020-10-01";
    const STANDARD: &str = r#"{"loadbalancer":{"publicIpAddresses":[{"frontendIpAddress":"203.0.113.4",
        "privateIpAddress":"10.0.0.4"}],"inboundRules":[],"outboundRules":[]}}"#;
    let clouds: [(&'static [Path], &str); 6] = [
        (
            &[
                ("PUT /latest/api/token", &["X-aws-ec2-metadata-token-ttl-seconds: 60"], "AQAEAL+secret=="),
                ("GET /latest/meta-data/public-ipv4", &["X-aws-ec2-metadata-token: AQAEAL+secret=="], "203.0.113.1"),
            ],
            "203.0.113.1",
        ),
        (
            &[(
                "GET /computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip",
                &["Metadata-Flavor: Google"],
                "203.0.113.2",
            )],
            "203.0.113.2",
        ),
        (&[(AZURE, &["Metadata: true"], "203.0.113.3")], "203.0.113.3"),
        (&[(AZURE, &["Metadata: true"], ""), (BALANCER, &["Metadata: true"], STANDARD)], "203.0.113.4"),
        (&[("GET /metadata/v1/interfaces/public/0/ipv4/address", &[], "203.0.113.5")], "203.0.113.5"),
        (&[("GET /hetzner/v1/metadata/public-ipv4", &[], "203.0.113.6\n")], "203.0.113.6"),
    ];
    for (paths, expected) in clouds {
        assert_eq!(public_address(knows(paths)), Ok(expected.parse().unwrap()));
    }
}

#[test]
fn a_cloud_without_a_public_address_is_named() {
    let cause = |paths| public_address(knows(paths)).unwrap_err();
    assert_eq!(
        cause(&[("PUT /latest/api/token", &[], "token")]),
        "the metadata service of AWS names no public address"
    );
    assert_eq!(
        cause(&[(
            "GET /metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress\
                ?api-version=2021-02-01&format=text",
            &[],
            "",
        )]),
        "the metadata service of Azure names no public address"
    );
    for (body, fault) in [
        ("10.0.0.1", "a private address"),
        ("169.254.169.254", "a private address"),
        ("100.64.0.1", "a private address"),
        ("0.0.0.0", "a private address"),
        ("fd00::1", "a private address"),
        ("play.example.com", "something that is no address"),
        ("203.0.113.1\n203.0.113.2", "something that is no address"),
        ("<html></html>", "something that is no address"),
    ] {
        let (address, _) = service(move |(line, _), stream| match line.contains("hetzner") {
            true => respond(stream, 200, body),
            false => respond(stream, 404, ""),
        });
        assert_eq!(public_address(address), Err(format!("the metadata service of Hetzner names {fault}")), "{body}");
    }
    assert_eq!(cause(&[]), "the service at 127.0.0.1 is of no cloud that is known");
}

/// A token with a line feed would be a header of its own.
#[test]
fn a_token_that_is_no_word_is_not_sent_back() {
    let (address, requests) = service(|_, stream| respond(stream, 200, "a\r\nX-Evil: 1"));
    public_address(address).unwrap_err();
    let asked: Vec<Request> = requests.try_iter().collect();
    assert_eq!(asked.len(), 5, "{asked:?}");
    assert!(asked.iter().all(|(line, headers)| !line.contains("meta-data/public-ipv4") && headers.len() <= 1));
}

#[test]
fn a_hostile_service_ends_in_an_error() {
    let endless = |_: &Request, stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'9'; 4_096]).is_ok() {}
    };
    let interim = |_: &Request, stream: &mut TcpStream| {
        while stream.write_all(&b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100)).is_ok() {}
    };
    let short = |_: &Request, stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n203.0.113.1");
    };
    let nothing = |_: &Request, _: &mut TcpStream| {};
    let other = |_: &Request, stream: &mut TcpStream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n");
    };
    let binary = |_: &Request, stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe\x00\x01");
    };
    let redirect = |_: &Request, stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: http://203.0.113.1/\r\nContent-Length: 0\r\n\r\n");
    };
    for (name, (address, _)) in [
        ("endless", service(endless)),
        ("interim", service(interim)),
        ("short", service(short)),
        ("nothing", service(nothing)),
        ("other", service(other)),
        ("binary", service(binary)),
        ("redirect", service(redirect)),
    ] {
        let cause = public_address(address).unwrap_err();
        assert_eq!(cause, "the service at 127.0.0.1 is of no cloud that is known", "{name}");
    }
}

/// The one byte of each half second keeps every read from timing out.
#[test]
fn a_slow_service_is_given_up() {
    let drip = |_: &Request, stream: &mut TcpStream| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
        for byte in head.iter().chain(std::iter::repeat_n(&b'1', 1_000_000)) {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    // It serves one at a time: the others are not even accepted.
    let (address, requests) = service(drip);
    public_address(address).unwrap_err();
    assert!(requests.try_iter().count() <= 5);
}

#[test]
fn where_nobody_listens_there_is_no_cloud() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cause = public_address(closed).unwrap_err();
    assert!(cause.starts_with("no cloud's metadata service answers at 127.0.0.1: "), "{cause}");
}
