//! The server, and a process of its own for every test that needs one.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) const BUCKET: &str = "tidegate";

/// The server, stopped on drop.
struct Moto {
    process: Child,
    address: String,
}

impl Moto {
    fn start() -> Self {
        let program =
            std::env::var_os("TIDEGATE_MOTO").map_or_else(|| PathBuf::from("moto_server"), PathBuf::from);
        // Free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}; run scripts/need.sh s3 first", program.display()));
        let moto = Self { process, address: format!("127.0.0.1:{port}") };
        for _ in 0..600 {
            let answer = request(&moto.address, "PUT", &format!("/{BUCKET}"));
            if answer.is_some_and(|answer| answer.contains(" 200 ")) {
                return moto;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("no answer from {}", program.display());
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn request(address: &str, method: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// What the server of this process says, past the library that jobs ask it with: header and body.
pub(crate) fn ask(method: &str, path: &str) -> String {
    let endpoint = std::env::var("AWS_ENDPOINT").unwrap();
    request(endpoint.strip_prefix("http://").unwrap(), method, &format!("/{BUCKET}/{path}")).unwrap()
}

/// The body of a test runs in a process of its own, which finds the server in its environment as jobs do.
pub(crate) fn with_server(test: &str, body: impl FnOnce()) {
    if std::env::var_os("AWS_ENDPOINT").is_some() {
        return body();
    }
    let moto = Moto::start();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("AWS_ENDPOINT", format!("http://{}", moto.address))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .status()
        .unwrap();
    assert!(status.success());
}
