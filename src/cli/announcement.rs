//! What a server prints when it starts.

use std::net::{IpAddr, SocketAddr};

use crate::driver;

/// Returns the lines to print at the start: the server's addresses, and what may keep players from reaching it.
pub(super) fn announcement(
    title: &str,
    scheme: &str,
    listen: SocketAddr,
    udp_ports: &str,
    interfaces: &[IpAddr],
    is_told_an_address: bool,
) -> Vec<String> {
    let port = listen.port();
    let mut lines = Vec::new();
    if listen.ip().is_unspecified() {
        lines.push(format!("{title} is open at {scheme}://localhost:{port}/"));
        if let Some(ip) = interfaces.iter().find(|ip| ip.is_ipv4() && !ip.is_loopback()) {
            lines.push(format!("for other devices: {scheme}://{ip}:{port}/"));
        }
    } else {
        lines.push(format!("{title} is open at {scheme}://{listen}/"));
    }
    // A server on loopback alone is for this machine only.
    let is_networked = interfaces.iter().any(|ip| !ip.is_loopback());
    if !is_told_an_address && is_networked && driver::are_private(interfaces) {
        lines.push(format!(
            "for players on other networks: name your public address with --public-addr and open {udp_ports}"
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announcement_names_what_can_be_reached() {
        let lines = |listen: &str, interfaces: &[&str], told| {
            let interfaces: Vec<IpAddr> = interfaces.iter().map(|ip| ip.parse().expect("an address")).collect();
            announcement("the game", "http", listen.parse().expect("an address"), "UDP port 9", &interfaces, told)
        };
        assert_eq!(lines("127.0.0.1:80", &["127.0.0.1"], false), ["the game is open at http://127.0.0.1:80/"]);
        let specific = lines("10.0.0.5:80", &["10.0.0.5"], false);
        assert_eq!(specific[0], "the game is open at http://10.0.0.5:80/");
        assert!(specific[1].contains("--public-addr"));
        assert_eq!(lines("10.0.0.5:80", &["10.0.0.5"], true).len(), 1);
        assert_eq!(lines("203.0.113.7:80", &["203.0.113.7"], false).len(), 1);
        let wildcard = lines("0.0.0.0:80", &["192.168.1.5", "127.0.0.1"], false);
        assert_eq!(
            wildcard[..2],
            ["the game is open at http://localhost:80/", "for other devices: http://192.168.1.5:80/"]
        );
        assert!(wildcard[2].contains("--public-addr") && wildcard[2].contains("UDP port 9"));
        assert_eq!(lines("0.0.0.0:80", &["192.168.1.5", "127.0.0.1"], true).len(), 2);
        assert_eq!(lines("0.0.0.0:80", &["203.0.113.7", "127.0.0.1"], false).len(), 2);
    }
}
