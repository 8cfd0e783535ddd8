//! Users of a server: who it takes, and whom it is to take.

use redis::{Value, cmd, pipe};
use tracing::debug;

use crate::redis::connection::{Connection, auth, classify, words};
use operator_core::{acl::User, hash};
use redis_node::{
    answer::ProbeFailure,
    login::{DEFAULT_USER, Login},
};

impl Connection {
    /// Whether the server takes this login. One that does not leaves the connection as it is (`authCommand`); one that does is
    /// followed by that of the connection at once.
    pub async fn takes(&mut self, login: &Login) -> Result<bool, ProbeFailure> {
        let own = self.login();
        // As the same user, perhaps with another password: the former one may end, and there is no way back to go.
        if login.user == own.user {
            return match self.run("AUTH", &auth(login)).await {
                Ok(()) => {
                    self.is_now(login);
                    Ok(true)
                }
                Err(ProbeFailure::Auth(_)) => Ok(false),
                Err(failure) => Err(failure),
            };
        }
        let mut both = pipe();
        both.add_command(auth(login)).add_command(auth(&own));
        let told = self.pipeline(&both, 2).await?;
        let mut replies = told.map_err(|error| classify(&error, "AUTH"))?.into_iter();
        let (first, second) = (replies.next(), replies.next());
        let taken = match first.map(Value::extract_error) {
            Some(Ok(_)) => true,
            Some(Err(error)) => match classify(&error, "AUTH") {
                ProbeFailure::Auth(_) => false,
                failure => return Err(failure),
            },
            None => false,
        };
        // It is somebody else now, who may do less.
        if taken && !matches!(second, Some(Value::Okay)) {
            self.give_up();
        }
        Ok(taken)
    }

    /// Gives the server this user, from nothing. The inner error is the server's refusal in its own words.
    pub async fn set_user(&mut self, user: &User) -> Result<Result<(), String>, ProbeFailure> {
        let mut command = cmd("ACL");
        command.arg("SETUSER").arg(&user.name).arg(user.rules());
        match self.raw(self.deadline, &command).await? {
            Ok(()) => Ok(Ok(())),
            Err(error) => match classify(&error, "ACL SETUSER") {
                ProbeFailure::Reply(_) => Ok(Err(words(&error))),
                failure => Err(failure),
            },
        }
    }

    /// The same for several. False where the server refuses one: the login that it took may not do that.
    pub(super) async fn set_users(&mut self, users: &[User]) -> Result<bool, ProbeFailure> {
        for user in users {
            if let Err(words) = self.set_user(user).await? {
                debug!(user = user.name, words, "a server does not take a user");
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes a user away, and cuts those who have logged in as that.
    pub async fn remove_user(&mut self, name: &str) -> Result<(), ProbeFailure> {
        self.query::<i64>("ACL", cmd("ACL").arg("DELUSER").arg(name)).await.map(|_| ())
    }

    /// What the server says of a user, to be compared with what it said before. Passwords are hashes there.
    pub async fn user(&mut self, name: &str) -> Result<String, ProbeFailure> {
        let answer: Value = self.query("ACL", cmd("ACL").arg("GETUSER").arg(name)).await?;
        Ok(hash::sha256(format!("{answer:?}").as_bytes()))
    }

    /// Lets the server log in to other members like this. Neither is asked before it is needed, so one that somebody changed is not
    /// noticed until then.
    pub async fn set_masterauth(&mut self, login: &Login) -> Result<(), ProbeFailure> {
        let user = if login.user == DEFAULT_USER { "" } else { &login.user };
        for (name, wanted) in [("masteruser", user.as_bytes()), ("masterauth", login.password.as_bytes())] {
            let found: Vec<Vec<u8>> = self.query("CONFIG", cmd("CONFIG").arg("GET").arg(name)).await?;
            if found.get(1).is_none_or(|found| found != wanted) {
                self.run("CONFIG", cmd("CONFIG").arg("SET").arg(name).arg(wanted)).await?;
            }
        }
        Ok(())
    }
}
