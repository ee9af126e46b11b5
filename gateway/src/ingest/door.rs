//! Connections of the HTTP door: accepted like those of trackers, spoken to by hyper.
//!
//! Why hyper below and no framework: seven paths and one kind of answer need none, and every handler
//! that is generic costs the small boxes bytes.
//!
//! Invariants: a connection gets `listen.handshake_timeout` for its TLS handshake and for every head
//! of a request; until a token of it was known it is a stranger and makes room for others; a stopping
//! gateway finishes the request that was begun and takes no other; who does not take its answer is hung up on.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use contract::Transport;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout_at;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::Ingest;
use super::patient::Patient;
use crate::listen::{Identity, ListenError, Place, Visitor, accept_all, bind};
use crate::metrics::Shed;

/// Room for the head of a request; hyper takes no less.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// For a sender to take some more of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Headers of a request at most.
const HEADERS_MAX: usize = 64;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One listening socket, with TLS behind it or not.
pub(super) struct Door {
    listener: TcpListener,
    identity: Option<Arc<Identity>>,
    ingest: Arc<Ingest>,
}

impl Door {
    /// Binds the address.
    /// # Errors
    /// [`ListenError::Bind`].
    pub(super) async fn open(
        addr: SocketAddr,
        identity: Option<Arc<Identity>>,
        ingest: &Arc<Ingest>,
    ) -> Result<Self, ListenError> {
        let (setting, scheme) = match identity {
            None => ("listen.http", "http"),
            Some(_) => ("listen.https", "https"),
        };
        let listener = bind(addr, setting).await?;
        let addr = listener.local_addr().unwrap_or(addr);
        tracing::info!(%addr, who = ingest.who(), "listening for positions over {}", scheme.to_uppercase());
        ingest
            .hall
            .metrics
            .ingest
            .door(format!("{scheme}://{addr}"));
        Ok(Self {
            listener,
            identity,
            ingest: Arc::clone(ingest),
        })
    }

    /// Accepts until told to stop; connections run on `sessions`.
    pub(super) async fn run(self, sessions: TaskTracker) {
        let (ingest, identity) = (&self.ingest, &self.identity);
        accept_all(
            self.listener,
            &ingest.hall,
            Transport::Http,
            |stream, visitor, place| {
                // As one: how many of them come from one address is judged at the door already.
                let among_senders = match ingest.places.take(Ipv4Addr::UNSPECIFIED.into()) {
                    Ok(place) => place,
                    Err(reason) => {
                        let why = "ingest.connections_max reached";
                        return ingest.hall.shed(reason, visitor.peer, None, why);
                    }
                };
                let guest = Guest {
                    ingest: Arc::clone(ingest),
                    visitor,
                    places: [place, among_senders],
                };
                let acceptor = identity
                    .as_ref()
                    .map(|identity| TlsAcceptor::from(identity.current()));
                sessions.spawn(guest.receive(stream, acceptor));
            },
        )
        .await;
    }
}

/// Who came in, with what it takes up.
struct Guest {
    ingest: Arc<Ingest>,
    visitor: Visitor,
    /// Among all connections, and among those of senders.
    places: [Place; 2],
}

impl Guest {
    async fn given_up(&self) -> Shed {
        let [among_all, among_senders] = &self.places;
        tokio::select! {
            reason = among_all.given_up() => reason,
            reason = among_senders.given_up() => reason,
        }
    }

    async fn receive(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        let Some(acceptor) = acceptor else {
            return self.converse(Box::new(stream)).await;
        };
        let hall = &self.ingest.hall;
        let until = self.visitor.came_at + hall.config.session.handshake_timeout;
        let shaken = tokio::select! {
            shaken = timeout_at(until.into(), acceptor.accept(stream)) => shaken,
            reason = self.given_up() => {
                return hall.shed(reason, self.visitor.peer, None, "no TLS handshake yet");
            }
            () = hall.stop.cancelled() => return,
        };
        match shaken {
            Ok(Ok(stream)) => Box::pin(self.converse(Box::new(stream))).await,
            Ok(Err(error)) => hall.shed(
                Shed::TlsHandshake,
                self.visitor.peer,
                None,
                &format!("TLS handshake failed: {error}"),
            ),
            Err(_) => hall.shed(
                Shed::HandshakeTimeout,
                self.visitor.peer,
                None,
                "TLS handshake not finished in time",
            ),
        }
    }

    async fn converse(mut self, stream: Box<dyn Stream>) {
        let (ingest, peer) = (Arc::clone(&self.ingest), self.visitor.peer);
        let known = Arc::new(Notify::new());
        let service = {
            let (ingest, known) = (Arc::clone(&ingest), Arc::clone(&known));
            service_fn(move |request| {
                let (ingest, known) = (Arc::clone(&ingest), Arc::clone(&known));
                async move { Ok::<_, Infallible>(ingest.answer(request, peer, &known).await) }
            })
        };
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(ingest.hall.config.session.handshake_timeout)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX);
        let stream = Patient::new(stream, ANSWER_TIMEOUT);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let (mut is_known, mut is_stopping) = (false, false);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, %error, "HTTP connection ended");
                        if error.is_timeout() && !is_known {
                            let why = "no whole request in time";
                            ingest.hall.shed(Shed::HandshakeTimeout, peer, None, why);
                        }
                    }
                    return;
                }
                reason = self.given_up() => {
                    return ingest.hall.shed(reason, peer, None, "given up for others");
                }
                () = known.notified(), if !is_known => {
                    is_known = true;
                    self.places.iter_mut().for_each(Place::logged_in);
                }
                () = ingest.hall.stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}
