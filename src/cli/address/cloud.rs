//! The public address of this machine, as the metadata service of its cloud has it.

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "the program asks before it serves")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::driver::are_private;
use crate::driver::client::{self, Request, Response};

/// Where clouds have their metadata service.
pub(super) const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);
/// How long each request may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// No cloud is asked after so long.
const PATIENCE_OVERALL: Duration = Duration::from_secs(4);
const RESPONSE_BYTES: usize = 16 * 1024;

const AWS_TOKEN: &str = "/latest/api/token";
const AWS: &str = "/latest/meta-data/public-ipv4";
const GOOGLE: &str = "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip";
const AZURE: &str =
    "/metadata/instance/network/interface/0/ipv4/ipAddress/0/publicIpAddress?api-version=2021-02-01&format=text";
const AZURE_STANDARD: &str = "/metadata/loadbalancer?api-version=2020-10-01";
const DIGITAL_OCEAN: &str = "/metadata/v1/interfaces/public/0/ipv4/address";
const HETZNER: &str = "/hetzner/v1/metadata/public-ipv4";

type Ask = fn(&Service) -> io::Result<Option<String>>;

/// Each cloud and how it is asked. The answer may be anything; there is none if the service is that of another cloud.
const CLOUDS: [(&str, Ask); 5] = [
    ("AWS", ask_aws),
    ("Google Cloud", |service| service.get(GOOGLE, &[("Metadata-Flavor", "Google")])),
    ("Azure", ask_azure),
    ("DigitalOcean", |service| service.get(DIGITAL_OCEAN, &[])),
    ("Hetzner", |service| service.get(HETZNER, &[])),
];

/// Asks the service for the clouds in turn. The error is a cause, for within a sentence.
pub(super) fn public_address(service: SocketAddr) -> Result<IpAddr, String> {
    let service = Service { address: service, deadline: Instant::now() + PATIENCE_OVERALL };
    if let Err(error) = service.connect() {
        return Err(format!("no cloud's metadata service answers at {}: {error}", service.address.ip()));
    }
    let mut cause = format!("the service at {} is of no cloud that is known", service.address.ip());
    for (cloud, ask) in CLOUDS {
        match ask(&service).map(|answer| answer.as_deref().map(public)) {
            Ok(None) => {}
            Ok(Some(Ok(ip))) => return Ok(ip),
            Ok(Some(Err(fault))) => cause = format!("the metadata service of {cloud} names {fault}"),
            Err(error) => log::debug!("{}, asked as {cloud}'s: {error}", service.address),
        }
    }
    Err(cause)
}

/// The fault is what the answer is instead.
fn public(answer: &str) -> Result<IpAddr, &'static str> {
    match answer.trim() {
        "" => Err("no public address"),
        answer => match answer.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() || are_private(&[ip]) => Err("a private address"),
            Ok(ip) => Ok(ip),
            Err(_) => Err("something that is no address"),
        },
    }
}

/// The token, which only version 2 of the service has, keeps others from asking through a program of this machine.
fn ask_aws(service: &Service) -> io::Result<Option<String>> {
    let wanted = [("X-aws-ec2-metadata-token-ttl-seconds", "60"), ("Content-Length", "0")];
    let token = service.ask(&Request { method: "PUT", path: AWS_TOKEN, headers: &wanted, ..service.request() })?;
    let is_token = |token: &String| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let Some(token) = text(token).filter(is_token) else { return Ok(None) };
    // A machine without a public address has no such path.
    service.get(AWS, &[("X-aws-ec2-metadata-token", &token)]).map(|answer| Some(answer.unwrap_or_default()))
}

/// Addresses of the kind "Standard" are among the metadata of load balancers, though there is none.
fn ask_azure(service: &Service) -> io::Result<Option<String>> {
    #[derive(Deserialize)]
    struct Metadata {
        loadbalancer: Balancer,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Balancer {
        public_ip_addresses: Vec<Pair>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Pair {
        frontend_ip_address: String,
    }

    let headers = [("Metadata", "true")];
    match service.get(AZURE, &headers)? {
        Some(answer) if answer.trim().is_empty() => {
            let metadata = service.get(AZURE_STANDARD, &headers)?;
            let metadata = metadata.and_then(|json| serde_json::from_str::<Metadata>(&json).ok());
            let pairs = metadata.map(|metadata| metadata.loadbalancer.public_ip_addresses).unwrap_or_default();
            Ok(Some(pairs.into_iter().next().map(|pair| pair.frontend_ip_address).unwrap_or_default()))
        }
        answer => Ok(answer),
    }
}

struct Service {
    address: SocketAddr,
    deadline: Instant,
}

impl Service {
    fn connect(&self) -> io::Result<TcpStream> {
        let left = self.deadline.saturating_duration_since(Instant::now()).min(PATIENCE);
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let stream = TcpStream::connect_timeout(&self.address, left)?;
        stream.set_read_timeout(Some(left))?;
        stream.set_write_timeout(Some(left))?;
        Ok(stream)
    }

    fn request(&self) -> Request<'static> {
        // The services ignore it, or want their address without a port.
        Request { authority: "169.254.169.254", ..Request::default() }
    }

    fn ask(&self, request: &Request<'_>) -> io::Result<Response> {
        client::ask(request, &mut self.connect()?, RESPONSE_BYTES, PATIENCE)
    }

    /// The text at a path, if there is one.
    fn get(&self, path: &str, headers: &[(&str, &str)]) -> io::Result<Option<String>> {
        Ok(text(self.ask(&Request { path, headers, ..self.request() })?))
    }
}

fn text(response: Response) -> Option<String> {
    String::from_utf8(response.body).ok().filter(|_| response.status == 200)
}

#[cfg(test)]
mod tests;
