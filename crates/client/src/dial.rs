//! Opens WebSocket connections.

use std::io;
use std::pin::Pin;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, Response, Uri};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tower_chat_rooms_protocol::SUBPROTOCOL_V1;

use crate::error::ClientError;
use crate::machine::{Credential, Failure};
use crate::retry_hint::RetryHint;
use crate::socket::{Io, Observed, Socket, config};
use crate::target::Target;
#[cfg(feature = "rustls")]
use crate::tls::Tls;

const SUBPROTOCOL: HeaderValue = HeaderValue::from_static(SUBPROTOCOL_V1);

/// How many characters of a refusal's text are reported.
const MAX_BODY: usize = 300;

/// Opens a connection, as many times as needed.
pub(crate) struct Connector {
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) token: Token,
    /// Whether the token is sent in a header of the handshake instead of over the open connection.
    pub(crate) token_in_header: bool,
    pub(crate) max_frame_bytes: usize,
    pub(crate) dial: Box<dyn Dial>,
}

/// A connection whose handshake is done.
pub(crate) struct Opened {
    pub(crate) socket: Socket,
    /// The token, if it is to be sent over the open connection.
    pub(crate) token: Option<String>,
}

/// Where the token comes from.
pub(crate) enum Token {
    None,
    Fixed(String),
    Provided(Box<dyn TokenProvider>),
}

impl Token {
    pub(crate) fn credential(&self) -> Credential {
        match self {
            Token::None | Token::Fixed(_) => Credential::Fixed,
            Token::Provided(_) => Credential::Renewable,
        }
    }

    async fn get(&self) -> Result<Option<String>, String> {
        match self {
            Token::None => Ok(None),
            Token::Fixed(token) => Ok(Some(token.clone())),
            Token::Provided(provider) => provider.provide().0.await.map(Some),
        }
    }
}

/// A type-erased future.
pub(crate) struct Boxed<'a, T>(pub(crate) Pin<Box<dyn Future<Output = T> + Send + 'a>>);

/// Provides the application's token.
pub(crate) trait TokenProvider: Send + Sync {
    fn provide(&self) -> Boxed<'_, Result<String, String>>;
}

impl<F, Fut, E> TokenProvider for F
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Result<String, E>> + Send,
    E: std::fmt::Display,
{
    fn provide(&self) -> Boxed<'_, Result<String, String>> {
        Boxed(Box::pin(async { self().await.map_err(|e| e.to_string()) }))
    }
}

/// Opens the byte stream below a WebSocket.
pub(crate) trait Dial: Send + Sync {
    fn dial(&self) -> Boxed<'_, io::Result<Box<dyn Io>>>;
}

impl<F, Fut, IO> Dial for F
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = io::Result<IO>> + Send,
    IO: Io + 'static,
{
    fn dial(&self) -> Boxed<'_, io::Result<Box<dyn Io>>> {
        Boxed(Box::pin(async { Ok(Box::new(self().await?) as Box<dyn Io>) }))
    }
}

/// TCP, with TLS for `wss`.
pub(crate) struct Tcp {
    host: String,
    port: u16,
    #[cfg(feature = "rustls")]
    tls: Option<Tls>,
}

impl Tcp {
    /// # Errors
    ///
    /// If the URL needs TLS, and the feature `rustls` is off or no certificate is trusted.
    pub(crate) async fn to(target: &Target) -> Result<Tcp, ClientError> {
        let (host, port) = (target.host().to_owned(), target.port());
        #[cfg(feature = "rustls")]
        {
            let tls = if target.is_secure() { Some(Tls::load(&host).await?) } else { None };
            Ok(Tcp { host, port, tls })
        }
        #[cfg(not(feature = "rustls"))]
        if target.is_secure() {
            let text =
                "for wss://, enable the feature `rustls` of tower-chat-rooms-client or use `Client::over`";
            Err(ClientError::Config(text.into()))
        } else {
            Ok(Tcp { host, port })
        }
    }
}

impl Dial for Tcp {
    fn dial(&self) -> Boxed<'_, io::Result<Box<dyn Io>>> {
        Boxed(Box::pin(async {
            let tcp = TcpStream::connect((&*self.host, self.port)).await?;
            tcp.set_nodelay(true)?;
            #[cfg(feature = "rustls")]
            if let Some(tls) = &self.tls {
                return tls.wrap(tcp).await;
            }
            Ok(Box::new(tcp) as Box<dyn Io>)
        }))
    }
}

impl Connector {
    /// Makes one attempt.
    pub(crate) async fn connect(&self) -> Result<Box<Opened>, Failure> {
        let token = self.token.get().await.map_err(Failure::Token)?;
        let (in_header, in_band) = if self.token_in_header { (token, None) } else { (None, token) };
        let request = self.request(in_header.as_deref()).map_err(Failure::Permanent)?;
        let io = self.dial.dial().0.await.map_err(|e| Failure::Transient(e.to_string()))?;
        let opened =
            client_async_with_config(request, Observed::new(io), Some(config(self.max_frame_bytes))).await;
        let (socket, _) = opened.map_err(failure)?;
        Ok(Box::new(Opened { socket: Socket::new(socket), token: in_band }))
    }

    /// A token for the current connection.
    pub(crate) async fn renew_token(&self) -> Result<String, String> {
        self.token.get().await?.ok_or_else(|| "the application has none".into())
    }

    fn request(&self, token: Option<&str>) -> Result<Request, String> {
        let mut request = self.uri.clone().into_client_request().map_err(|e| e.to_string())?;
        let headers = request.headers_mut();
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        headers.insert(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
        if let Some(token) = token {
            let bearer = HeaderValue::try_from(format!("Bearer {token}"));
            let mut bearer = bearer.map_err(|_| "the token is not a valid header value")?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        Ok(request)
    }
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Http(response) => Failure::Http {
            status: response.status().as_u16(),
            body: explanation(&response),
            retry: header(&response, RETRY_AFTER).and_then(RetryHint::in_header),
        },
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            Failure::Permanent("the server does not speak chat-rooms.v1".into())
        }
        error => Failure::Transient(error.to_string()),
    }
}

/// What a response that is not an upgrade says, for people to read.
fn explanation(response: &Response<Option<Vec<u8>>>) -> String {
    if let Some(location) = header(response, LOCATION) {
        return format!("redirected to {location}; connect to that address");
    }
    if response.status().is_success() {
        return "no WebSocket at this path; check the URL".into();
    }
    let text = String::from_utf8_lossy(response.body().as_deref().unwrap_or_default());
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    words
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(MAX_BODY)
        .collect()
}

fn header<B>(response: &Response<B>, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}
