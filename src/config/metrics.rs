//! Where metrics are served.

use crate::error::{StartError, StartResult};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

/// Where metrics are served if nobody says: only this machine can reach it. The usual range of
/// exporters, 9100 to 9999, is all taken; nobody known uses this one.
pub const METRICS_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10847);

/// The word for "nowhere".
const OFF: &str = "off";

/// Where metrics are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// The address, or nowhere.
    pub address: Option<SocketAddr>,
    /// Somebody asked for it, so that it is an error if it cannot be had.
    pub asked: bool,
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str(OFF),
        }
    }
}

/// What the key's value means; without one it is the default.
pub fn parse(text: Option<&str>) -> StartResult<Metrics> {
    let Some(text) = text else {
        return Ok(Metrics { address: Some(METRICS_DEFAULT), asked: false });
    };
    if text == OFF {
        return Ok(Metrics { address: None, asked: true });
    }
    let numbers = text.replace("localhost:", "127.0.0.1:");
    match numbers.parse() {
        Ok(address) => Ok(Metrics { address: Some(address), asked: true }),
        Err(_) => Err(StartError::usage(
            format!("metrics: \"{text}\" is not an address"),
            format!(
                "write ADDRESS:PORT in numbers, such as {METRICS_DEFAULT} or [::1]:10847, or off"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_numbers_or_off() {
        assert_eq!(parse(None).expect("default").to_string(), "127.0.0.1:10847");
        assert!(!parse(None).expect("default").asked);
        for (text, shown) in [
            ("off", "off"),
            ("localhost:1", "127.0.0.1:1"),
            ("0.0.0.0:9", "0.0.0.0:9"),
            ("[::1]:10847", "[::1]:10847"),
        ] {
            let found = parse(Some(text)).expect(text);
            assert_eq!((found.to_string().as_str(), found.asked), (shown, true));
        }
        for text in ["", "on", "9100", ":9100", "example.org:1", "127.0.0.1", "127.0.0.1:70000"] {
            let error = parse(Some(text)).expect_err(text).to_string();
            assert!(error.contains("; write ADDRESS:PORT"), "{error}");
        }
    }
}
