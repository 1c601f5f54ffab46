//! Addresses as people write them: `host:port`.

use std::net::{IpAddr, SocketAddr};

/// The host of `host:port`, without the brackets of IPv6.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or("", |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Whether nobody but processes of this machine reaches `host:port`.
pub(crate) fn is_of_this_machine(address: &str) -> bool {
    let host = host_of(address);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether it stands for all addresses of this machine. Nobody can be sent there.
pub(crate) fn is_unspecified(address: &str) -> bool {
    host_of(address).parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

/// Whether this is a host that others can be sent to, with or without a port.
pub(crate) fn can_be_advertised(advertise: &str) -> bool {
    let with_port = match split(advertise) {
        (_, Some(0)) => return false,
        (host, port) => format!("{host}:{}", port.unwrap_or(1)),
    };
    let host = host_of(&with_port);
    let is_ip = host.parse::<IpAddr>().is_ok();
    let is_name = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    (is_ip || is_name) && !is_unspecified(&with_port)
}

/// Host, in brackets if it is of IPv6, and port.
fn split(advertise: &str) -> (String, Option<u16>) {
    if let Ok(IpAddr::V6(ip)) = advertise.parse() {
        return (format!("[{ip}]"), None);
    }
    match advertise.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => match port.parse() {
            Ok(port) => (host.to_owned(), Some(port)),
            Err(_) => (String::new(), None),
        },
        _ => (advertise.to_owned(), None),
    }
}

/// What others are told of a process that listens at `bound`: `advertise`, with the port of `bound` if it has none.
pub(crate) fn advertised(bound: SocketAddr, advertise: Option<&str>) -> String {
    match advertise.map(split) {
        None => bound.to_string(),
        Some((host, port)) => format!("{host}:{}", port.unwrap_or(bound.port())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_addresses() {
        for (address, loopback, unspecified) in [
            ("127.0.0.1:6123", true, false),
            ("localhost:1", true, false),
            ("[::1]:6123", true, false),
            ("0.0.0.0:6123", false, true),
            ("[::]:0", false, true),
            ("10.0.0.1:6123", false, false),
            ("host:6123", false, false),
        ] {
            assert_eq!(
                (is_of_this_machine(address), is_unspecified(address)),
                (loopback, unspecified),
                "{address}"
            );
        }
    }

    #[test]
    fn others_are_told_a_host_and_the_port_that_was_bound_or_another_one() {
        let bound = "0.0.0.0:6123".parse().unwrap();
        for (advertise, told) in [
            ("host.example", "host.example:6123"),
            ("host:7000", "host:7000"),
            ("10.0.0.1", "10.0.0.1:6123"),
            ("fe80::1", "[fe80::1]:6123"),
            ("[fe80::1]", "[fe80::1]:6123"),
            ("[fe80::1]:7000", "[fe80::1]:7000"),
        ] {
            assert!(can_be_advertised(advertise), "{advertise}");
            assert_eq!(advertised(bound, Some(advertise)), told);
        }
        assert_eq!(advertised(bound, None), "0.0.0.0:6123");
        for wrong in ["", ":7000", "0.0.0.0", "[::]:7000", "host:0", "host:70000", "a host", "host:x"] {
            assert!(!can_be_advertised(wrong), "{wrong}");
        }
    }
}
