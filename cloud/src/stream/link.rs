//! Asking Redis: one server or a cluster, over the connections everybody shares or over one's own.
//!
//! Why two ways: a read that blocks holds up everything behind it on its connection, so each reader
//! has a [`Reader`]; everything else is short and shares a [`Link`].
//!
//! Invariants: a command is sent again only after a node said that it did not execute it; what a
//! broken connection may have done is for the caller to find out; a connection that failed once is
//! never used again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, RedisError, RedisResult, Value, from_redis_value};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinSet;

use super::cluster::{self, Step};
pub use super::connect::{Node, Redis};
pub use super::failure::RedisFailure;

/// How often a command follows a slot that moves.
const STEPS_MAX: usize = 8;

/// Before a command whose keys are on their way is sent again.
const AGAIN: Duration = Duration::from_millis(50);

/// A node of a cluster that could not be reached is left alone for so long, so that what waits for
/// it does not hold up what goes to others.
const REST: Duration = Duration::from_secs(1);

/// Commands on their way at once in [`Link::ask_all`].
const AT_ONCE: usize = 256;

/// Sends one command; behind `ASKING`, when its slot is on the way to that node.
async fn send(on: &mut MultiplexedConnection, command: &Cmd, asking: bool) -> RedisResult<Value> {
    if !asking {
        return command.query_async(on).await;
    }
    let mut both = redis::pipe();
    // A pipeline's own error would not say which node to go to next.
    both.cmd("ASKING")
        .add_command(command.clone())
        .ignore_errors();
    let (asked, answer): (Value, Value) = both.query_async(on).await?;
    // A user who may not say it would be sent back and forth.
    asked.extract_error()?;
    answer.extract_error()
}

fn typed<T: FromRedisValue>(answer: Value) -> RedisResult<T> {
    from_redis_value(answer).map_err(RedisError::from)
}

/// A connection of one reader's own, to the node that has its stream.
#[derive(Debug)]
pub struct Reader {
    redis: Arc<Redis>,
    block: Duration,
    node: Node,
    connection: MultiplexedConnection,
    /// Where the stream's slot is on its way to.
    aside: Option<(Node, MultiplexedConnection)>,
}

impl Reader {
    /// Opens a connection to wherever `key` is, for reads that block up to `block`.
    /// # Errors
    /// [`RedisFailure`]; the next one looks for the right node anew.
    pub async fn open(redis: Arc<Redis>, key: &str, block: Duration) -> Result<Self, RedisFailure> {
        let node = redis.node_of(Some(key.as_bytes())).await?;
        let connection = redis
            .open(&node, block)
            .await
            .inspect_err(|_| redis.doubt())?;
        Ok(Self {
            redis,
            block,
            node,
            connection,
            aside: None,
        })
    }

    /// Sends one command about the stream, wherever that is meanwhile.
    /// # Errors
    /// [`RedisFailure`]; drop the reader and open another.
    pub async fn ask<T: FromRedisValue>(
        &mut self,
        doing: &'static str,
        command: &Cmd,
    ) -> Result<T, RedisFailure> {
        let answered = self.follow(doing, command).await;
        if answered.as_ref().is_err_and(RedisFailure::is_wrong_node) {
            self.redis.doubt();
        }
        typed(answered?).map_err(|source| self.redis.failure(&self.node, doing, source))
    }

    async fn follow(&mut self, doing: &'static str, command: &Cmd) -> Result<Value, RedisFailure> {
        let mut steps = 0;
        let mut aside = None;
        loop {
            let (node, answer) = match aside.take() {
                None => {
                    let answer = send(&mut self.connection, command, false).await;
                    (self.node.clone(), answer)
                }
                Some(to) => {
                    let connection = self.aside(&to).await?;
                    let answer = send(connection, command, true).await;
                    (to, answer)
                }
            };
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            steps += 1;
            match self.redis.step(&node, &error).filter(|_| steps < STEPS_MAX) {
                Some(Step::Moved { to, .. }) => {
                    let to = Node::Named(to);
                    if to != self.node {
                        self.connection = self.redis.open(&to, self.block).await?;
                        self.node = to;
                    }
                }
                Some(Step::Ask { to }) => aside = Some(Node::Named(to)),
                Some(Step::Again) => tokio::time::sleep(AGAIN).await,
                None => return Err(self.redis.failure(&node, doing, error)),
            }
        }
    }

    async fn aside(&mut self, to: &Node) -> Result<&mut MultiplexedConnection, RedisFailure> {
        if self.aside.as_ref().is_none_or(|(node, _)| node != to) {
            let connection = self.redis.open(to, self.block).await?;
            self.aside = Some((to.clone(), connection));
        }
        let (_, connection) = self.aside.as_mut().expect("put there a line above");
        Ok(connection)
    }
}

/// What a link has of one node.
#[derive(Debug, Default)]
struct Place {
    connection: Option<MultiplexedConnection>,
    /// It could not be reached, and why.
    resting: Option<(Instant, RedisError)>,
}

/// The connections everybody but the blocking readers shares: one to each node.
#[derive(Clone, Debug)]
pub struct Link {
    redis: Arc<Redis>,
    places: Arc<Mutex<HashMap<Node, Arc<AsyncMutex<Place>>>>>,
}

impl Link {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(redis: Arc<Redis>) -> Self {
        Self {
            redis,
            places: Arc::default(),
        }
    }

    /// The address without its password.
    #[must_use]
    pub fn url(&self) -> &str {
        self.redis.url()
    }

    /// May keys live on different nodes, as far as we know?
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.redis.is_cluster()
    }

    /// Sends one command to the node that has its key and reads its answer, connecting first where
    /// needed.
    /// # Errors
    /// [`RedisFailure`]; the next call makes a new connection when this one failed.
    pub async fn ask<T: FromRedisValue>(
        &self,
        doing: &'static str,
        command: &Cmd,
    ) -> Result<T, RedisFailure> {
        self.ask_beside(cluster::key_of(command), doing, command)
            .await
    }

    /// Sends one command that has no key to the node that has `key`.
    /// # Errors
    /// As [`Link::ask`].
    pub async fn ask_beside<T: FromRedisValue>(
        &self,
        key: Option<&[u8]>,
        doing: &'static str,
        command: &Cmd,
    ) -> Result<T, RedisFailure> {
        let node = self.redis.node_of(key).await?;
        self.ask_node(&node, doing, command).await
    }

    /// Every node that may have keys: one, or the masters of a cluster.
    /// # Errors
    /// [`RedisFailure`].
    pub async fn masters(&self) -> Result<Vec<Node>, RedisFailure> {
        self.redis.masters().await
    }

    /// Sends one command to one node, and on from there where that node says so.
    /// # Errors
    /// As [`Link::ask`].
    pub async fn ask_node<T: FromRedisValue>(
        &self,
        node: &Node,
        doing: &'static str,
        command: &Cmd,
    ) -> Result<T, RedisFailure> {
        let (mut node, mut asking, mut steps) = (node.clone(), false, 0);
        loop {
            let error = match self.send(&node, doing, command, asking).await? {
                Ok(answer) => {
                    return typed(answer)
                        .map_err(|source| self.redis.failure(&node, doing, source));
                }
                Err(error) => error,
            };
            steps += 1;
            match self.redis.step(&node, &error).filter(|_| steps < STEPS_MAX) {
                Some(Step::Moved { to, .. }) => (node, asking) = (Node::Named(to), false),
                Some(Step::Ask { to }) => (node, asking) = (Node::Named(to), true),
                Some(Step::Again) => tokio::time::sleep(AGAIN).await,
                None => {
                    let failure = self.redis.failure(&node, doing, error);
                    if failure.is_wrong_node() {
                        self.redis.doubt();
                        self.place(&node).lock().await.connection = None;
                    }
                    return Err(failure);
                }
            }
        }
    }

    /// Sends many commands, each to the node of its key, so many at a time that the way there and
    /// back is not paid for each. The answers are in the order of the commands.
    pub async fn ask_all<T: FromRedisValue + Send + 'static>(
        &self,
        doing: &'static str,
        commands: Vec<Cmd>,
    ) -> Vec<Result<T, RedisFailure>> {
        let mut answers: Vec<Option<Result<T, RedisFailure>>> = Vec::new();
        answers.resize_with(commands.len(), || None);
        let mut commands = commands.into_iter().enumerate();
        let mut asking = JoinSet::new();
        loop {
            while asking.len() < AT_ONCE
                && let Some((at, command)) = commands.next()
            {
                let link = self.clone();
                asking.spawn(async move { (at, link.ask(doing, &command).await) });
            }
            match asking.join_next().await {
                Some(Ok((at, answer))) => answers[at] = Some(answer),
                // Nobody aborts them, and a panic has said so itself: its place stays empty.
                Some(Err(_)) => {}
                None => break,
            }
        }
        let missing = || {
            let gone = std::io::Error::other("the task that asked ended by itself");
            Err(RedisFailure::new(self.url().to_owned(), doing, gone.into()))
        };
        let answers = answers.into_iter();
        answers
            .map(|answer| answer.unwrap_or_else(missing))
            .collect()
    }

    /// The outer error: no connection.
    async fn send(
        &self,
        node: &Node,
        doing: &'static str,
        command: &Cmd,
        asking: bool,
    ) -> Result<RedisResult<Value>, RedisFailure> {
        let place = self.place(node);
        let mut connection = {
            let mut place = place.lock().await;
            if let Some((until, error)) = &place.resting
                && Instant::now() < *until
            {
                return Err(self.redis.failure(node, doing, error.clone()));
            }
            match &place.connection {
                Some(connection) => connection.clone(),
                None => match self.redis.open(node, Duration::ZERO).await {
                    Ok(new) => place.connection.insert(new).clone(),
                    Err(failure) => {
                        self.redis.doubt();
                        if let RedisFailure::Unreachable { source, .. } = &failure
                            && self.is_cluster()
                        {
                            place.resting = Some((Instant::now() + REST, source.clone()));
                        }
                        return Err(failure);
                    }
                },
            }
        };
        Ok(send(&mut connection, command, asking).await)
    }

    fn place(&self, node: &Node) -> Arc<AsyncMutex<Place>> {
        // A map of handles is whole after any panic.
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.entry(node.clone()).or_default().clone()
    }
}
