//! One Redis process and the connection that the operator holds to it: watching, looking and acting go over the same one.
//!
//! It is opened again only where it broke, or where the server stays silent over it and answers over a fresh one. So a server
//! that takes no new clients is still seen, and can be helped.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::redis::connection::{Connection, within};
use operator_core::acl::User;
use redis_node::{
    answer::{Answer, ProbeFailure},
    login::Login,
    password::Password,
};

/// A server that is silent for longer over the held connection is also asked over a fresh one: the path to it may be broken. A
/// healthy server answers within a millisecond.
const SILENCE: Duration = Duration::from_millis(500);

/// How long a command over the held connection waits for its answer. A healthy Redis needs milliseconds; one that is busy with a script
/// stays silent for 5 s, and its state is unknown either way.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How long one is asked that gave no answer in time when it was asked before: an election looks several times, and waits for it
/// each time. Who watches the server asks for as long as ever.
const LATE_DEADLINE: Duration = Duration::from_millis(300);

/// A Redis to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Stable DNS name of the pod.
    pub host: String,
    /// Address of the pod as the API server gave it; `host` is resolved to this and nothing else.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// As whom.
    pub logins: Arc<Logins>,
}

/// As whom the operator can log in, and what it gives each server that it has logged in to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logins {
    /// Tried in this order.
    pub tried: Vec<Login>,
    /// As whom replicas copy from their primary.
    pub replica: Login,
    /// The users that each server is to have before anything else; none where the Secret with their passwords is not there.
    pub own_users: Vec<User>,
}

impl Logins {
    /// By one password of the default user, as before the operator had users of its own.
    pub fn of_default(password: Password) -> Self {
        let login = Login::of_default(password);
        Self { tried: vec![login.clone()], replica: login, own_users: Vec::new() }
    }

    /// As whom whoever comes now logs in.
    pub fn first(&self) -> &Login {
        self.tried.first().unwrap_or(&self.replica)
    }
}

/// One pod's Redis.
#[derive(Debug, Default)]
pub struct Server {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    connection: Option<Connection>,
    /// Where it leads: a pod whose network is made again gets another address, and another pod the former one.
    address: Option<IpAddr>,
    /// When it answered last.
    answered: Option<Instant>,
    /// It gave no answer in time when it was asked last.
    is_late: bool,
    /// What the server accepted last. A Secret that was changed reaches a running pod late, or never.
    accepted: Option<Login>,
}

impl Server {
    /// What the server says of itself, within `deadline`, and the connection over which it said so. Acts that follow from the
    /// answer go over that connection: it leads to the process that answered and to no other.
    pub async fn ask(
        &self,
        target: &Target,
        deadline: Duration,
    ) -> Result<(Answer, Connection), ProbeFailure> {
        let asked = match self.held(target) {
            Some(held) => within(deadline, Box::pin(self.ask_held(held, target))).await,
            None => within(deadline, Box::pin(self.dial_now(target))).await,
        };
        let asked = asked.and_then(|asked| asked);
        self.with(|held| held.is_late = matches!(asked, Err(ProbeFailure::Timeout(_))));
        if asked.is_ok() {
            self.has_answered();
        }
        asked
    }

    /// The same for a look, which does not wait long for one that is known to be silent.
    pub async fn ask_again(
        &self,
        target: &Target,
        deadline: Duration,
    ) -> Result<(Answer, Connection), ProbeFailure> {
        let is_late = self.with(|held| held.is_late);
        self.ask(target, if is_late { deadline.min(LATE_DEADLINE) } else { deadline }).await
    }

    /// Notes that it has answered just now.
    pub fn has_answered(&self) {
        self.with(|held| {
            held.answered = Some(Instant::now());
            held.is_late = false;
        });
    }

    /// Notes that it gave no answer in time.
    pub fn was_late(&self) {
        self.with(|held| held.is_late = true);
    }

    /// For how long it has given no answer; `None` where it never gave one.
    pub fn silent_for(&self) -> Option<Duration> {
        self.with(|held| held.answered.map(|at| at.elapsed()))
    }

    /// The connection that is held to it, answered or not.
    pub fn connection(&self) -> Option<Connection> {
        self.with(|held| held.connection.clone()).filter(|connection| !connection.has_ended())
    }

    fn with<T>(&self, f: impl FnOnce(&mut Held) -> T) -> T {
        f(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The connection that is held to this address, unless it has ended.
    pub fn held(&self, target: &Target) -> Option<Connection> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let here = held.connection.clone().filter(|_| held.address == Some(target.address));
        here.filter(|connection| !connection.has_ended())
    }

    /// Opens another connection within `deadline`, and holds that one from now on.
    ///
    /// # Errors
    /// Why there is none; the former one is still held.
    pub async fn dial(
        &self,
        target: &Target,
        deadline: Duration,
    ) -> Result<(Answer, Connection), ProbeFailure> {
        // Boxed: it is large, rare, and part of the future of each watch.
        within(deadline, Box::pin(self.dial_now(target))).await?
    }

    async fn dial_now(&self, target: &Target) -> Result<(Answer, Connection), ProbeFailure> {
        let mut connection = self.open(target).await?;
        let answer = said(&mut connection, target).await?;
        // Whom a person sees in `CLIENT LIST`, and the next operator cuts off.
        connection.introduce().await?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.accepted = Some(connection.login());
        held.address = Some(target.address);
        held.connection = Some(connection.clone());
        Ok((answer, connection))
    }

    /// Logs in as whom the server takes, and gives it the operator's users. As the operator itself wherever that can be.
    async fn open(&self, target: &Target) -> Result<Connection, ProbeFailure> {
        let accepted = self.with(|held| held.accepted.clone());
        let logins = &target.logins;
        let accepted = accepted.filter(|accepted| !logins.tried.contains(accepted));
        let mut refused = None;
        for login in logins.tried.iter().chain(&accepted) {
            let mut connection = match Connection::open(target, login, ANSWER_WITHIN).await {
                Ok(connection) => connection,
                Err(failure @ ProbeFailure::Auth(_)) => {
                    refused.get_or_insert(failure);
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            // One that knows the operator has its users; those of the last reconcile may be out of date.
            if login == logins.first()
                || logins.own_users.is_empty()
                || !connection.set_users(&logins.own_users).await?
            {
                return Ok(connection);
            }
            // One that takes no further client keeps this one.
            return Ok(Connection::open(target, logins.first(), ANSWER_WITHIN).await.unwrap_or(connection));
        }
        Err(refused.unwrap_or_else(|| ProbeFailure::Auth("no login is known".to_owned())))
    }

    async fn ask_held(
        &self,
        held: Connection,
        target: &Target,
    ) -> Result<(Answer, Connection), ProbeFailure> {
        let mut clone = held.clone();
        let asked = said(&mut clone, target);
        tokio::pin!(asked);
        tokio::select! {
            answer = &mut asked => return match answer {
                Ok(answer) => Ok((answer, held)),
                // It says what it is, and would say the same to another connection.
                Err(failure @ (ProbeFailure::Busy | ProbeFailure::Loading)) => Err(failure),
                // It broke, or gives what cannot be understood: another one is opened.
                Err(_) => Box::pin(self.dial_now(target)).await,
            },
            () = sleep(SILENCE) => {}
        }
        let mut dialled = Box::pin(self.dial_now(target));
        tokio::select! {
            answer = &mut asked => match answer {
                Ok(answer) => Ok((answer, held)),
                Err(_) => dialled.await,
            },
            dialled = &mut dialled => match dialled {
                // It lives, and answers as soon as it can over the connection that it has.
                Err(ProbeFailure::ClientLimit | ProbeFailure::Busy | ProbeFailure::Loading) => {
                    asked.await.map(|answer| (answer, held))
                }
                dialled => dialled,
            },
        }
    }
}

/// `INFO`, the name that the server announces, and whether it takes the password from others who would come now.
async fn said(connection: &mut Connection, target: &Target) -> Result<Answer, ProbeFailure> {
    let info = connection.info().await?;
    let (announced, demands) = connection.replication_settings().await?;
    let refuses_password = !takes_newcomers(connection, &target.logins).await?;
    Ok(Answer { info, announced, demands, refuses_password })
}

/// Whether the server takes those who would come now: the operator, and replicas. Where a person has changed a user of the operator's,
/// it gets that back.
async fn takes_newcomers(connection: &mut Connection, logins: &Logins) -> Result<bool, ProbeFailure> {
    let takes = async |connection: &mut Connection| {
        Ok(connection.takes(logins.first()).await? && connection.takes(&logins.replica).await?)
    };
    Ok(takes(connection).await?
        || (!logins.own_users.is_empty()
            && connection.set_users(&logins.own_users).await?
            && takes(connection).await?))
}
