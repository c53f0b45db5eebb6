//! A self-signed certificate for development, kept in a file so that what browsers were told about it lasts.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use jiff::{Timestamp, tz::TimeZone};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::{RENEWAL, Tls, read};
use crate::driver::{BindError, bind, unix_time};

const FILE: &str = "development.pem";
/// Before the file was made, and after it.
const CLOCK_DIFFERENCE: Duration = Duration::from_hours(24);
const VALIDITY: Duration = Duration::from_hours(365 * 24);
/// Characters of a line of PEM (RFC 7468 §2).
const LINE: usize = 64;

impl Tls {
    /// A self-signed certificate for `localhost`, and for this machine's name and IPv4 addresses. Browsers warn of it
    /// once.
    ///
    /// It stands with its key in `rtcade/development.pem` in the user's cache directory (`XDG_CACHE_HOME`, by default
    /// `~/.cache`), readable by the user only. A new one is made if the machine has another name or address, or if it
    /// expires within 14 days.
    ///
    /// # Errors
    /// [`BindError::Tls`]: the file can't be written.
    pub fn development() -> Result<Tls, BindError> {
        let directory = std::env::var_os("XDG_CACHE_HOME")
            .filter(|path| Path::new(path).is_absolute())
            .map(PathBuf::from)
            .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
            .ok_or_else(|| {
                let sentence = "there is no directory for a development certificate: set HOME or XDG_CACHE_HOME";
                BindError::Tls(sentence.to_owned())
            })?;
        kept(&directory.join("rtcade"), &own_names(), unix_time())
    }
}

/// The certificate in this directory, or a new one if that is not for these names any more.
pub(super) fn kept(directory: &Path, names: &[String], now: Duration) -> Result<Tls, BindError> {
    let file = directory.join(FILE);
    let tls = Tls { certificate: file.clone(), key: file.clone() };
    if !is_usable(&tls, names, now) {
        let failed = |cause: &dyn fmt::Display| {
            let path = file.display();
            BindError::Tls(format!("{path} can't be written ({cause}): set XDG_CACHE_HOME to another directory"))
        };
        let text = make(names, now).map_err(|error| failed(&error))?;
        write(directory, &text).map_err(|error| failed(&error))?;
        log::info!("made a development certificate for {}: {}", names.join(", "), file.display());
    }
    Ok(tls)
}

/// What this machine is called in the addresses of its pages. IPv6 addresses other than loopback often change by the
/// day.
fn own_names() -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string()];
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    names.extend(host.filter(|name| !name.is_empty() && name.is_ascii()).map(|name| name.to_ascii_lowercase()));
    let addresses = bind::interfaces(&[Ipv4Addr::UNSPECIFIED.into()]).unwrap_or_default();
    names.extend(addresses.iter().map(IpAddr::to_string));
    names.sort_unstable();
    names.dedup();
    names
}

fn is_usable(tls: &Tls, names: &[String], now: Duration) -> bool {
    let Ok(bytes) = read(&tls.certificate, super::CERTIFICATE) else { return false };
    let Ok(der) = CertificateDer::from_pem_slice(&bytes) else { return false };
    let Ok(certificate) = Certificate::from_der(&der) else { return false };
    let certificate = certificate.tbs_certificate();
    let Ok(Some((_, SubjectAltName(known)))) = certificate.get_extension() else { return false };
    let is_known = |name: &String| {
        known.iter().any(|known| match (known, name.parse::<IpAddr>()) {
            (known, Ok(ip)) => *known == GeneralName::from(ip),
            (GeneralName::DnsName(known), Err(_)) => known.as_str() == name,
            _ => false,
        })
    };
    let lasts = certificate.validity().not_after.to_unix_duration() > now + RENEWAL;
    lasts && names.iter().all(is_known) && tls.load().is_ok()
}

/// The certificate and its key as PEM.
fn make(names: &[String], now: Duration) -> Result<String, rcgen::Error> {
    let date = |time: Duration| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or_default();
        let date = Timestamp::from_second(seconds).unwrap_or_default().to_zoned(TimeZone::UTC).date();
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    let mut params = CertificateParams::new(names)?;
    params.not_before = date(now.saturating_sub(CLOCK_DIFFERENCE));
    params.not_after = date(now + VALIDITY);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "rtcade development certificate");
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok([pem("PRIVATE KEY", key.serialized_der()), pem("CERTIFICATE", certificate.der())].concat())
}

fn pem(label: &str, der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = base64.as_bytes().chunks(LINE).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Replaces the file as a whole, so that a server that starts at the same time reads one or the other.
fn write(directory: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let new = directory.join(format!("{FILE}.{}", std::process::id()));
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(new, directory.join(FILE))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_certificate_is_kept_until_it_ends_or_the_machine_has_another_name() {
        let directory = std::env::temp_dir().join(format!("rtcade-development-{}", std::process::id()));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let text = |names: &[String], now| {
            let tls = kept(&directory, names, now).expect("written");
            assert!(is_usable(&tls, names, now));
            fs::read_to_string(tls.certificate).expect("written")
        };
        let (two, now) = (names(&["192.0.2.7", "localhost"]), unix_time());
        let first = text(&two, now);
        assert_eq!(text(&two, now + VALIDITY - RENEWAL - CLOCK_DIFFERENCE), first);
        assert_eq!(text(&names(&["localhost"]), now), first, "it is for fewer names, too");
        let mode = fs::metadata(directory.join(FILE)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "the key is the user's");
        let later = text(&two, now + VALIDITY - RENEWAL + CLOCK_DIFFERENCE);
        assert_ne!(later, first);
        let moved = text(&names(&["198.51.100.7", "localhost"]), now);
        assert_ne!(moved, later);
        fs::write(directory.join(FILE), &moved[..moved.len() / 2]).expect("writable");
        assert_ne!(text(&two, now), moved);
        fs::remove_dir_all(directory).expect("removed");
    }

    #[test]
    fn this_machine_is_localhost_and_has_addresses() {
        let names = own_names();
        for name in ["localhost", "127.0.0.1", "::1"] {
            assert!(names.iter().any(|own| own == name), "{names:?}");
        }
        make(&names, unix_time()).expect("each is a name that a certificate may have");
    }
}
