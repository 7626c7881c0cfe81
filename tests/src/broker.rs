//! The broker that a test run has: for each test a virtual host of its own, and agents in processes of their own on it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine as _;

use crate::{Background, Bed, Said, Service, ansible_playbook, chiffon_agent, root};

/// Virtual hosts made by this process so far.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A place on the broker, for one home.
#[derive(Debug)]
pub struct Broker {
    /// `amqp://HOST:PORT`, without a user.
    pub address: String,
    /// The virtual host.
    pub vhost: String,
    management: String,
}

#[expect(clippy::disallowed_methods, reason = "where the broker is, its starter says in the environment")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `make test`"))
}

/// Scheme, user, password and the rest of an address.
fn parts(url: &str) -> [String; 4] {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (user, place) = rest.rsplit_once('@').unwrap();
    let (user, password) = user.split_once(':').unwrap();
    [scheme, user, password, place].map(str::to_owned)
}

/// A page with its head, asked for with one more line in the question's own; `None` where nobody answers.
pub(crate) fn get(address: &str, path: &str, line: &str) -> Option<String> {
    ask(address, &format!("GET {path}"), &format!("{line}\r\n"), "")
}

/// What is answered to a question, with its head; `None` where nobody answers in half a minute.
fn ask(address: &str, what: &str, head: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    write!(stream, "{what} HTTP/1.1\r\nHost: localhost\r\n{head}Connection: close\r\n\r\n{body}").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
}

impl Broker {
    /// `http://ADMIN@HOST:PORT`, without a password.
    pub fn management(&self) -> &str {
        &self.management
    }

    /// Sends as an agent what nobody can read. A `chiffon up` must have been on the broker.
    ///
    /// # Panics
    /// The broker did not deliver it.
    pub fn say_nonsense(&self, agent: &str) {
        let [_, admin, password, place] = parts(&variable("CHIFFON_TEST_AMQP_MANAGEMENT_URL"));
        let who = base64::engine::general_purpose::STANDARD.encode(format!("{admin}:{password}"));
        let message = serde_json::json!({
            "properties": {}, "routing_key": agent, "payload": "nonsense", "payload_encoding": "string",
        })
        .to_string();
        let path = format!("/api/exchanges/{}/chiffon.v1.reports/publish", self.vhost);
        let length = message.len();
        let head =
            format!("Authorization: Basic {who}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
        let reply = ask(&place, &format!("POST {path}"), &head, &message).unwrap();
        assert!(reply.contains(r#""routed":true"#), "{reply}");
    }
}

impl Bed {
    /// Has its agents on the test run's broker from now on, in a virtual host of its own, and answers over HTTP.
    pub fn join_broker(&self) -> Broker {
        self.join(&variable("CHIFFON_TEST_AMQP_URL"), &variable("CHIFFON_TEST_AMQP_MANAGEMENT_URL"))
    }

    /// The same on a broker of the test's own.
    pub fn join_broker_of(&self, service: &Service) -> Broker {
        self.join(service.address("CHIFFON_TEST_AMQP_URL"), service.address("CHIFFON_TEST_AMQP_MANAGEMENT_URL"))
    }

    fn join(&self, amqp: &str, management: &str) -> Broker {
        let [scheme, admin, password, place] = parts(management);
        let [_, _, _, broker] = parts(amqp);
        let number = MADE.fetch_add(1, Ordering::SeqCst);
        let vhost = format!("end-to-end-{}-{number}", std::process::id());
        let secret = self.home().join("management-password");
        fs::write(&secret, password).unwrap();
        fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let broker = Broker {
            address: format!("amqp://{broker}"),
            vhost: vhost.clone(),
            management: format!("{scheme}://{admin}@{place}"),
        };
        let config = self.home().join("chiffon.yaml");
        let mut text = fs::read_to_string(&config).unwrap();
        text.push_str(&format!(
            "  bus:\n    amqp:\n      url: amqp://{vhost}.chiffon@{place}/{vhost}\n      password_file: broker-password\n    \
             management:\n      url: {management}\n      password_file: management-password\n  web:\n    listen: 127.0.0.1:0\n",
            place = broker.address.trim_start_matches("amqp://"),
            management = broker.management,
        ));
        fs::write(config, text).unwrap();
        self.chiffon(&["broker", "setup"]).ends(0);
        broker
    }

    /// The folder of an agent in a process of its own.
    pub fn agent_home(&self, name: &str) -> PathBuf {
        self.path().join("agents").join(name)
    }

    /// `chiffon-agent --dir HOME …`, in an environment of its own.
    pub fn agent_command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(&[]);
        let environment: Vec<_> =
            command.get_envs().map(|(key, value)| (key.to_owned(), value.map(ToOwned::to_owned))).collect();
        command = Command::new(chiffon_agent());
        command.current_dir(self.path()).env_clear();
        for (key, value) in environment {
            command.env(key, value.unwrap_or_default());
        }
        command.arg("--dir").arg(self.agent_home(name)).args(arguments);
        command
    }

    /// Runs `chiffon-agent` to its end.
    pub fn agent(&self, name: &str, arguments: &[&str]) -> Said {
        self.agent_command(name, arguments).output().unwrap().into()
    }

    /// Has an agent that is enrolled say each second that it lives.
    pub fn let_speak_often(&self, name: &str) {
        let path = self.agent_home(name).join("agent.yaml");
        let text = fs::read_to_string(&path).unwrap();
        let text: String =
            text.lines().filter(|line| !line.contains("heartbeat_secs")).map(|line| format!("{line}\n")).collect();
        fs::write(path, text + "  heartbeat_secs: 1\n").unwrap();
    }

    /// Makes a second home on the same requests repository, database and broker.
    pub fn twin(&self, name: &str) {
        let (home, twin) = (self.home(), self.path().join(name));
        fs::create_dir_all(twin.join("state")).unwrap();
        for file in ["broker-password", "management-password", "state/signing-key"] {
            if home.join(file).exists() {
                fs::copy(home.join(file), twin.join(file)).unwrap();
            }
        }
        let config = fs::read_to_string(home.join("chiffon.yaml")).unwrap();
        let requests = format!("spec:\n  requests: {}\n", self.requests().display());
        fs::write(twin.join("chiffon.yaml"), config.replacen("spec:\n", &requests, 1)).unwrap();
    }

    /// A number that a `chiffon up` of this home shows at `/metrics`, by its name and labels; `None` where it shows none.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let page = self.page("/metrics")?;
        let line = page.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// A page that a `chiffon up` of this home answers with, its head included; `None` where nobody answers.
    pub fn page(&self, path: &str) -> Option<String> {
        let address = fs::read_to_string(self.home().join("state/web-address")).ok()?;
        get(address.trim(), path, "Accept: */*")
    }

    /// What a `chiffon up` of this home answers to a body of JSON, its head included; `None` where nobody answers.
    pub fn post(&self, path: &str, body: &str) -> Option<String> {
        let address = fs::read_to_string(self.home().join("state/web-address")).ok()?;
        let head = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        ask(address.trim(), &format!("POST {path}"), &head, body)
    }

    /// Invites an agent and enrols it. A `chiffon up` must run.
    #[track_caller]
    pub fn enrol(&self, name: &str) {
        let invited = self.chiffon(&["agent", "invite", name, "--json"]).ends(0).json();
        self.enrol_with(name, invited["url"].as_str().unwrap(), invited["token"].as_str().unwrap()).ends(0);
    }

    /// Enrols an agent with a token.
    pub fn enrol_with(&self, name: &str, url: &str, token: &str) -> Said {
        self.enrol_saying(name, url, token, &[])
    }

    /// Enrols an agent that believes an authority, by the file of its certificate.
    pub fn enrol_believing(&self, name: &str, url: &str, token: &str, ca: &Path) -> Said {
        self.enrol_saying(name, url, token, &["--ca", ca.to_str().unwrap()])
    }

    fn enrol_saying(&self, name: &str, url: &str, token: &str, more: &[&str]) -> Said {
        let ansible = ansible_playbook();
        let mut arguments = vec!["enrol", url, token, "--ansible-playbook", ansible.to_str().unwrap()];
        let (requests, infra) = (self.requests(), self.infra_repository());
        arguments.extend(["--requests", requests.to_str().unwrap(), "--infra", infra.to_str().unwrap()]);
        let password = self.path().join("vault-password");
        if password.exists() {
            arguments.extend(["--vault-password-file", password.to_str().unwrap()]);
        }
        arguments.extend(more);
        self.agent(name, &arguments)
    }

    /// Starts an agent that is enrolled, and waits until it is on the broker.
    #[track_caller]
    pub fn start_agent(&self, name: &str) -> Background {
        let mut agent = Background::start(self.agent_command(name, &["up"]));
        agent.wait_for("ready");
        agent
    }

    /// The infra repository that the home's configuration names.
    fn infra_repository(&self) -> PathBuf {
        let text = fs::read_to_string(self.home().join("chiffon.yaml")).unwrap();
        let url = text.lines().find_map(|line| line.trim().strip_prefix("url: ")).unwrap();
        root().join(url)
    }
}
