//! Pings: a web address is called when a run begins, ends well or fails, so that somebody elsewhere notices when
//! nothing comes. As healthchecks.io and those like it take them: `URL/start`, `URL`, `URL/fail`.

use std::{fmt, sync::Arc, time::Duration};

use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::sys::{show, signals};

/// Pauses before it is tried again.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// What is said with a failure is no longer.
const LONGEST: usize = 10_000;

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A run begins.
    Start,
    /// It ended well.
    Success,
    /// It failed.
    Fail,
}

/// An address that is called. Whoever knows it can send one, so its path is never shown.
#[derive(Clone)]
pub struct Ping {
    /// The address.
    pub url: String,
    /// No attempt takes longer.
    pub timeout: Duration,
}

impl fmt::Debug for Ping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ping").field("host", &self.host()).finish_non_exhaustive()
    }
}

impl Ping {
    /// The host that is called, for messages.
    pub fn host(&self) -> String {
        let host = self.url.parse::<ureq::http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
        show(host.unwrap_or_default().as_bytes())
    }

    fn address(&self, signal: Signal) -> String {
        let (path, query) = self.url.split_at(self.url.find('?').unwrap_or(self.url.len()));
        let path = path.trim_end_matches('/');
        match signal {
            Signal::Start => format!("{path}/start{query}"),
            Signal::Success => format!("{path}{query}"),
            Signal::Fail => format!("{path}/fail{query}"),
        }
    }

    /// Calls it, again if it fails. The error says why, without the address.
    pub fn call(&self, signal: Signal, text: &str) -> Result<(), String> {
        let address = self.address(signal);
        let text: String = text.chars().take(LONGEST).collect();
        let agent = self.agent();
        let mut pauses = PAUSES.iter();
        loop {
            let Err(e) = agent.post(&address).send(text.as_str()) else { return Ok(()) };
            // What was understood and refused is refused again.
            let is_refused = matches!(e, ureq::Error::StatusCode(400..=499));
            let pause = pauses.next().filter(|_| !is_refused);
            if pause.is_none_or(|pause| signals::pause(*pause).is_err()) {
                let why = show(e.to_string().as_bytes());
                return Err(if why.contains(&address) { "the address is wrong".to_owned() } else { why });
            }
        }
    }

    fn agent(&self) -> ureq::Agent {
        let config = ureq::Agent::config_builder().timeout_global(Some(self.timeout)).max_redirects(3);
        if !self.url.starts_with("https") {
            return config.build().into();
        }
        let authorities = rustls_native_certs::load_native_certs().certs;
        let authorities: Vec<_> =
            authorities.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(authorities))).build();
        config.tls_config(tls).build().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signal_is_part_of_the_path_and_the_path_is_never_shown() {
        let ping =
            Ping { url: "https://hc.example.org/hunter2/?rid=1".to_owned(), timeout: Duration::from_secs(1) };
        let all = [Signal::Start, Signal::Success, Signal::Fail].map(|signal| ping.address(signal));
        let url = "https://hc.example.org/hunter2";
        assert_eq!(all, [format!("{url}/start?rid=1"), format!("{url}?rid=1"), format!("{url}/fail?rid=1")]);
        assert_eq!(format!("{ping:?}"), "Ping { host: \"hc.example.org\", .. }");
    }
}
