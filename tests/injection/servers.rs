//! The same against real redis-servers: what they read back is what was meant.

use super::*;

/// A redis-server over a file that the agent rendered, on an address of its own.
struct Rendered {
    address: std::net::Ipv4Addr,
    child: Child,
    directory: TempDir,
}

impl Rendered {
    /// `more` are lines after the agent's: of a server's own, so that several can run here.
    fn start(user: &str, password: &Password, more: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let address = free_address();
        let conf = rendered(user, password, &directory.path().display().to_string());
        let log = directory.path().join("log");
        let path = directory.path().join("redis.conf");
        fs::write(&path, format!("{conf}bind {address}\nlogfile {}\n{more}", log.display())).unwrap();
        let child = Command::new("redis-server")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { address, child, directory }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// A client that has logged in with these bytes.
    fn client(&mut self, password: &Password) -> redis::Connection {
        let begun = Instant::now();
        loop {
            let client = redis::Client::open(format!("redis://{}:{REDIS_PORT}", self.address)).unwrap();
            if let Ok(mut connection) = client.get_connection_with_timeout(PATIENCE) {
                redis::cmd("AUTH").arg(password.as_bytes()).exec(&mut connection).unwrap();
                return connection;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it did not start: {}", self.log());
            assert!(begun.elapsed() < PATIENCE, "{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Rendered {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All that a server reads back, but for what differs from server to server.
fn readings(client: &mut redis::Connection) -> BTreeMap<String, Vec<u8>> {
    let all: Vec<Vec<u8>> = redis::cmd("CONFIG").arg("GET").arg("*").query(client).unwrap();
    let own = ["bind", "logfile", "dir", "masterauth", "masteruser", TITLE];
    all.chunks(2)
        .map(|pair| (String::from_utf8(pair[0].clone()).unwrap(), pair[1].clone()))
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .collect()
}

fn reading(client: &mut redis::Connection, name: &str) -> Vec<u8> {
    let pair: Vec<Vec<u8>> = redis::cmd("CONFIG").arg("GET").arg(name).query(client).unwrap();
    pair[1].clone()
}

/// A directive of which Redis takes nearly any text, at its start and live.
const TITLE: &str = "proc-title-template";

/// What Redis keeps of a word: a C string.
fn kept(word: &[u8]) -> &[u8] {
    word.split(|byte| *byte == 0).next().unwrap()
}

/// Values that admission takes, and that are a title: one word, if `one`, that is not blank and has no variable of a title in it.
fn titles(count: usize, one: bool) -> Vec<String> {
    let is_title = |value: &String| {
        let spec = BTreeMap::from([(TITLE.to_owned(), value.clone())]);
        let Some(words) = directives::check(&spec).ok().and_then(|()| words(value.as_bytes())) else {
            return false;
        };
        let text = words.join(&b' ');
        let kept = kept(&text);
        !kept.iter().any(|byte| b"{}".contains(byte))
            && !kept.trim_ascii().is_empty()
            && (!one || words.len() == 1)
    };
    let found: Vec<String> = sample(prop_oneof![6 => closed_text(), 1 => text()], 6 * count)
        .into_iter()
        .filter(is_title)
        .take(count)
        .collect();
    assert_eq!(found.len(), count);
    found
}

/// Each file has many values, one a line as the operator writes it. A line that Redis took for something else would keep it from
/// starting, or be seen in what it reads back.
#[test]
fn redis_servers_start_with_what_was_meant_and_nothing_else() {
    const STARTS: usize = 40;
    let passwords: Vec<Password> = sample(bytes(), 3 * STARTS)
        .iter()
        .filter_map(|bytes| Password::from_bytes(bytes))
        .take(STARTS)
        .collect();
    let untouched = {
        let mut server = Rendered::start("", &passwords[0], "");
        readings(&mut server.client(&passwords[0]))
    };
    let titles = titles(usize::try_from(CASES).unwrap(), true);
    let begun = Instant::now();
    for (values, password) in titles.chunks(titles.len() / STARTS).zip(&passwords) {
        let line = |value: &String| File::first(&BTreeMap::from([(TITLE.to_owned(), value.clone())])).text();
        let user: String = values.iter().map(line).collect();
        let mut server = Rendered::start(&user, password, "");
        let mut client = server.client(password);
        let last = &words(values.last().unwrap().as_bytes()).unwrap()[0];
        assert_eq!(
            reading(&mut client, TITLE).escape_ascii().to_string(),
            kept(last).escape_ascii().to_string()
        );
        assert_eq!(reading(&mut client, "masterauth"), password.as_bytes());
        let mut now = readings(&mut client);
        // The operator's default, which each File has.
        now.insert("repl-diskless-sync-delay".to_owned(), untouched["repl-diskless-sync-delay"].clone());
        assert_eq!(now, untouched);
        let users: Vec<Vec<u8>> = redis::cmd("ACL").arg("LIST").query(&mut client).unwrap();
        let hash = hexadecimal(password.as_bytes());
        assert_eq!(
            users.iter().map(|user| user.escape_ascii().to_string()).collect::<Vec<_>>(),
            [format!("user default on sanitize-payload #{hash} ~* &* +@all")]
        );
    }
    println!("{} values in {STARTS} files: {:.1?}", titles.len(), begun.elapsed());
}

pub fn hexadecimal(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every user of this file has a password of its own, quoted as those of the operator are.
#[test]
fn a_redis_server_reads_ten_thousand_quoted_secrets() {
    let own = Password::from_bytes(b"own").unwrap();
    let secrets: Vec<Vec<u8>> = sample(bytes(), usize::try_from(CASES).unwrap());
    let begun = Instant::now();
    let user = |(number, secret): (usize, &Vec<u8>)| {
        let rule = [b">", secret.as_slice()].concat();
        format!("user u{number} on {}\n", quote(&rule))
    };
    let users: String = secrets.iter().enumerate().map(user).collect();
    let mut server = Rendered::start("", &own, &users);
    let lines: Vec<String> = redis::cmd("ACL").arg("LIST").query(&mut server.client(&own)).unwrap();
    let found: BTreeSet<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(found.len(), secrets.len() + 1, "one user a line, and the default one");
    for (number, secret) in secrets.iter().enumerate() {
        let line = format!("user u{number} on #{} resetchannels -@all", hexadecimal(secret));
        assert!(found.contains(line.as_str()), "{}", secret.escape_ascii());
    }
    println!("{} secrets: {:.1?}", secrets.len(), begun.elapsed());
}

/// By the operator's own connection: what it tells a running server is what the file would have told it.
#[tokio::test]
async fn a_running_server_is_told_what_was_meant_and_nothing_else() {
    let server = RedisServer::start(&[]);
    let untouched = readings(&mut server.client());
    let (_, mut connection) = probe(&server.target(), PATIENCE).await.unwrap();
    let mut client = server.client();
    let titles = titles(usize::try_from(CASES).unwrap(), false);
    let begun = Instant::now();
    for value in &titles {
        let meant = words(value.as_bytes()).unwrap().join(&b' ');
        connection.set_config(TITLE, &argument(value)).await.unwrap().unwrap();
        let found = reading(&mut client, TITLE);
        assert_eq!(found.escape_ascii().to_string(), kept(&meant).escape_ascii().to_string(), "{value:?}");
    }
    println!("{} values: {:.1?}", titles.len(), begun.elapsed());
    assert_eq!(readings(&mut client), untouched);
}
