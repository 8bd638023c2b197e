//! Where Redis is, as its URL says.

use std::fmt;

use redis::io::tcp::TcpSettings;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    RedisError,
};

use crate::error::ConnectError;

const SENTINEL_PORT: u16 = 26379;
const PORT: u16 = 6379;

/// Where Redis is, and how to log in.
#[derive(Clone)]
pub(crate) struct Servers {
    kind: Kind,
    /// The server itself, or those that know where it is.
    entries: Vec<ConnectionInfo>,
    login: RedisConnectionInfo,
    certificates: Certificates,
    is_tls: bool,
}

/// How the server is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is in the URL.
    Single,
    /// Sentinels know the master with this name.
    Sentinel { master: String },
    /// The servers of a cluster know which of them has the slot of the prefix.
    Cluster,
}

/// Certificates in PEM.
#[derive(Clone, Default)]
pub(crate) struct Certificates {
    /// Those that are trusted; by default, those that the system trusts.
    pub(crate) ca: Option<Vec<u8>>,
    /// This process's certificate, and its key.
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Servers {
    pub(crate) fn parse(
        url: &str,
        sentinel_password: Option<&str>,
        certificates: Certificates,
    ) -> Result<Servers, ConnectError> {
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (scheme, found_by) = scheme.split_once('+').unwrap_or((scheme, ""));
        let is_tls = scheme == "rediss";
        if is_tls && !cfg!(feature = "tls") {
            return Err(ConnectError::settings(
                "`rediss` URLs need TLS: enable the feature `redis-tls` of tower-chat-rooms".to_owned(),
            ));
        }
        let has_certificates = certificates.ca.is_some() || certificates.client.is_some();
        if has_certificates && !is_tls {
            return Err(ConnectError::settings("only `rediss` URLs need certificates".to_owned()));
        }
        let (kind, entries) = match found_by {
            "sentinel" => {
                let (user, hosts, path) = split(rest);
                let (master, db) = path.split_once('/').unwrap_or((path, "0"));
                if master.is_empty() {
                    return Err(invalid_url());
                }
                let entry = |host| entry(scheme, user, host, SENTINEL_PORT, db);
                (Kind::Sentinel { master: master.to_owned() }, hosts.split(',').map(entry).collect())
            }
            "cluster" => {
                let (user, hosts, path) = split(rest);
                if !path.is_empty() {
                    return Err(ConnectError::settings("a cluster has only the database 0".to_owned()));
                }
                (Kind::Cluster, hosts.split(',').map(|host| entry(scheme, user, host, PORT, "0")).collect())
            }
            _ => (Kind::Single, parse(url).map(|entry| vec![entry])),
        };
        let mut entries: Vec<ConnectionInfo> = entries?;
        let login = entries.first().ok_or_else(invalid_url)?.redis_settings().clone();
        if matches!(kind, Kind::Sentinel { .. }) {
            // The sentinels themselves have no users and databases, and often no password.
            let at_sentinel = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
            let at_sentinel = match sentinel_password {
                Some(password) => at_sentinel.set_password(password),
                None => at_sentinel,
            };
            entries =
                entries.into_iter().map(|entry| entry.set_redis_settings(at_sentinel.clone())).collect();
        }
        let servers = Servers { kind, entries, login, certificates, is_tls };
        servers.check_certificates()?;
        Ok(servers)
    }

    fn check_certificates(&self) -> Result<(), ConnectError> {
        let is_certificate =
            |pem: &Vec<u8>| String::from_utf8_lossy(pem).contains("-----BEGIN CERTIFICATE-----");
        if self.certificates.ca.as_ref().is_some_and(|ca| !is_certificate(ca)) {
            return Err(ConnectError::settings("the CA is no certificate in PEM".to_owned()));
        }
        let client = self.client(self.entries[0].clone());
        client.map(drop).map_err(|error| {
            ConnectError::settings(format!("the URL or the certificates cannot be used: {error}"))
        })
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }

    pub(crate) fn entries(&self) -> &[ConnectionInfo] {
        &self.entries
    }

    /// The server at an address that a sentinel or a cluster has told.
    pub(crate) fn at(&self, host: String, port: u16) -> ConnectionInfo {
        let addr = if self.is_tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        self.entries[0].clone().set_addr(addr).set_redis_settings(self.login.clone())
    }

    pub(crate) fn client(&self, server: ConnectionInfo) -> Result<Client, RedisError> {
        #[cfg(feature = "tls")]
        if self.is_tls {
            use redis::{ClientTlsConfig, TlsCertificates};
            use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
            // Without one, rustls panics. If another thread installs one right now, that one is used.
            if CryptoProvider::get_default().is_none() {
                let _ = ring::default_provider().install_default();
            }
            let Certificates { ca, client } = self.certificates.clone();
            let client_tls =
                client.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
            return Client::build_with_tls(server, TlsCertificates { client_tls, root_cert: ca });
        }
        Client::open(server)
    }
}

/// Without user and password.
impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, entry) in self.entries.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            write!(f, "{comma}{}", entry.addr())?;
        }
        match &self.kind {
            Kind::Single => Ok(()),
            Kind::Sentinel { master } => write!(f, " (sentinels of {master})"),
            Kind::Cluster => f.write_str(" (cluster)"),
        }
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Servers({self})")
    }
}

/// The user with its `@`, the hosts and the path.
fn split(rest: &str) -> (&str, &str, &str) {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    (user, hosts, path)
}

fn entry(scheme: &str, user: &str, host: &str, port: u16, db: &str) -> Result<ConnectionInfo, ConnectError> {
    // The colons of an IPv6 address are in brackets.
    let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
    let port = if has_port { String::new() } else { format!(":{port}") };
    parse(&format!("{scheme}://{user}{host}{port}/{db}"))
}

fn parse(url: &str) -> Result<ConnectionInfo, ConnectError> {
    let info = url.into_connection_info().map_err(|_| invalid_url())?;
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    // Otherwise, a call waits until the server has confirmed the one before, which it does with its answer.
    let tcp = TcpSettings::default().set_nodelay(true);
    Ok(info.set_redis_settings(redis).set_tcp_settings(tcp))
}

fn invalid_url() -> ConnectError {
    // The URL may contain a password, so the message does not.
    ConnectError::settings(
        "the URL must look like `redis://user:password@host:6379/0`, `redis+unix:///path`, \
         `redis+sentinel://host:26379,host:26379/master/0` or `redis+cluster://host:6379,host:6379`"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Servers {
        Servers::parse(url, Some("s"), Certificates::default()).expect(url)
    }

    #[test]
    fn urls_say_how_the_server_is_found() {
        let servers = parsed("redis+sentinel://ann:p%40w@a,b:1,[::1],[::2]:3/main/2");
        assert_eq!(servers.kind(), &Kind::Sentinel { master: "main".to_owned() });
        assert_eq!(servers.to_string(), "a:26379,b:1,::1:26379,::2:3 (sentinels of main)");
        assert_eq!(servers.entries()[0].redis_settings().password(), Some("s"));
        assert_eq!(servers.entries()[0].redis_settings().db(), 0);
        let server = servers.at("m".to_owned(), 6);
        let login = server.redis_settings();
        assert_eq!((login.username(), login.password(), login.db()), (Some("ann"), Some("p@w"), 2));
        assert!(server.tcp_settings().nodelay());

        let servers = parsed("redis+cluster://:pw@a:7000,b");
        assert_eq!((servers.kind(), &*servers.to_string()), (&Kind::Cluster, "a:7000,b:6379 (cluster)"));
        assert_eq!(servers.entries()[1].redis_settings().password(), Some("pw"));
        assert_eq!(parsed("redis://u:p@h").to_string(), "h:6379");
        assert_eq!(parsed("unix:///run/a%20b").to_string(), "/run/a b");
    }

    #[test]
    fn urls_that_cannot_work_are_refused() {
        for url in [
            "",
            "h",
            "http://h",
            "redis:/h",
            "redis+sentinel://a,b",
            "redis+sentinel:///main",
            "redis+sentinel://a,/main",
            "redis+sentinel://a/main/x",
            "redis+cluster://",
            "redis+cluster://a/1",
            "redis+other://a",
            "redis://h:x",
        ] {
            let error = Servers::parse(url, None, Certificates::default()).expect_err(url);
            assert_eq!(error.kind(), crate::ConnectErrorKind::Settings, "{url}");
        }
    }

    #[test]
    fn certificates_need_tls() {
        let certificates = Certificates { ca: Some(b"x".to_vec()), client: None };
        for url in ["redis://h", "rediss://h"] {
            assert!(Servers::parse(url, None, certificates.clone()).is_err(), "{url}");
        }
    }
}
