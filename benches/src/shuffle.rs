//! Records between two processes, beside a plain copy of as many bytes over TCP and over an HTTP/2 stream.
//!
//! What carries records between taskmanagers was to be framed TCP or HTTP/2, whichever is faster: this is what says so.

use crate::members::{Members, Outcome};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tidegate::Environment;
use tidegate::config::Arguments;
use tidegate::connector::{DiscardSink, Generator};
use tidegate::prelude::{Collector, ProcessContext, ProcessFunction, Result};
use tokio::runtime::Runtime;

/// As much as one frame of the data plane carries.
const PIECE: usize = 32 << 10;
/// What a receiver of an HTTP/2 stream grants: as much as a channel of ours.
const WINDOW: u32 = 256 << 10;
const BYTES: u64 = 1 << 30;
/// Bytes of a record, and how many are sent.
const RECORDS: [(usize, u64); 3] = [(10, 20_000_000), (100, 10_000_000), (1_000, 2_000_000)];
const ROUNDS: usize = 3;

/// Everything in turn, and medians.
pub(crate) fn run() -> Outcome<()> {
    let (mut tcp, mut http) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        tcp.push(copy("tcp")?);
        http.push(copy("http2")?);
    }
    println!("| between two processes | MB/s | records/s |\n|---|---|---|");
    println!("| plain TCP, pieces of 32 KiB | {:.0} | |", crate::checkpoints::median(tcp));
    println!(
        "| HTTP/2 stream, pieces of 32 KiB, window 256 KiB | {:.0} | |",
        crate::checkpoints::median(http)
    );
    for (bytes, count) in RECORDS {
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            rates.push(records(bytes, count)?);
        }
        let rate = crate::checkpoints::median(rates);
        println!(
            "| records of {bytes} bytes through the data plane | {:.0} | {:.2} M |",
            rate * bytes as f64 / 1e6,
            rate / 1e6
        );
    }
    Ok(())
}

/// Megabytes a second from another process.
fn copy(how: &str) -> Outcome<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let mut peer = Command::new(std::env::current_exe()?).args(["shuffle-peer", how, &address]).spawn()?;
    let (stream, _) = listener.accept()?;
    let start = Instant::now();
    let received =
        if how == "tcp" { read_all(stream)? } else { Runtime::new()?.block_on(receive(stream))? };
    let seconds = start.elapsed().as_secs_f64();
    peer.wait()?;
    if received == BYTES {
        Ok(BYTES as f64 / 1e6 / seconds)
    } else {
        Err(format!("{received} bytes came").into())
    }
}

fn read_all(mut stream: TcpStream) -> Outcome<u64> {
    let (mut buffer, mut received) = (vec![0; PIECE], 0);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(received),
            bytes => received += bytes as u64,
        }
    }
}

async fn receive(stream: TcpStream) -> Outcome<u64> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let stream = tokio::net::TcpStream::from_std(stream)?;
    let mut server = h2::server::Builder::new();
    server.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).max_frame_size(PIECE as u32);
    let mut connection = server.handshake::<_, bytes::Bytes>(stream).await?;
    let (request, mut respond) = connection.accept().await.ok_or("no request")??;
    // The connection moves only while somebody asks for the next request.
    let moving = tokio::spawn(async move { while connection.accept().await.is_some() {} });
    let (mut body, mut received) = (request.into_body(), 0);
    while let Some(data) = body.data().await {
        let data = data?;
        received += data.len() as u64;
        body.flow_control().release_capacity(data.len())?;
    }
    respond.send_response(http::Response::new(()), true)?;
    moving.await?;
    Ok(received)
}

/// The process that sends.
pub(crate) fn peer(words: &[String]) -> Outcome<()> {
    let [how, address] = words else { return Err("shuffle-peer tcp|http2 address".into()) };
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    if how == "tcp" {
        let (mut stream, piece) = (stream, vec![1; PIECE]);
        for _ in 0..BYTES / PIECE as u64 {
            stream.write_all(&piece)?;
        }
        return Ok(());
    }
    Runtime::new()?.block_on(send(stream))
}

async fn send(stream: TcpStream) -> Outcome<()> {
    stream.set_nonblocking(true)?;
    let stream = tokio::net::TcpStream::from_std(stream)?;
    let (mut client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let request = http::Request::builder().method("POST").uri("http://peer/").body(())?;
    let (answer, mut body) = client.send_request(request, false)?;
    let piece = bytes::Bytes::from(vec![1; PIECE]);
    let mut left = BYTES;
    while left > 0 {
        body.reserve_capacity(PIECE);
        // Only capacity that is new is waited for.
        let granted = match body.capacity() {
            0 => match std::future::poll_fn(|cx| body.poll_capacity(cx)).await {
                Some(granted) => granted?,
                None => return Err(format!("closed with {left} bytes to go: {:?}", answer.await).into()),
            },
            granted => granted,
        };
        let size = granted.min(PIECE).min(left as usize);
        left -= size as u64;
        body.send_data(piece.slice(..size), left == 0)?;
    }
    answer.await?;
    Ok(())
}

/// Counts, and writes down when and how many.
struct Note {
    notes: File,
    records: u64,
}

impl ProcessFunction<String, u64> for Note {
    fn process(&mut self, _: String, _: &mut ProcessContext<'_>, _: &mut Collector<'_, u64>) -> Result<()> {
        if self.records.is_multiple_of(100_000) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
            writeln!(self.notes, "{now} {}", self.records)?;
        }
        self.records += 1;
        Ok(())
    }
}

/// A member of the cluster: the source in one taskmanager, what reads it in the other.
pub(crate) fn member(words: &[String]) -> Result<()> {
    let parsed = Arguments::new("tidegate-bench shuffle-job", "Sends records from one process to another.")
        .option("bytes", "N", Some("100"), "of a record")
        .option("records", "N", Some("1000000"), "to send")
        .option("notes", "FILE", None, "where to write down how many came when")
        .parse(["tidegate-bench".into()].into_iter().chain(words.iter().map(Into::into)))?;
    let (bytes, records): (usize, u64) = (parsed.number("bytes")?, parsed.number("records")?);
    let notes = PathBuf::from(parsed.required("notes")?);
    let env = Environment::from_parsed(&parsed);
    env.source(Generator::new(Some(records + 1), move |_| "x".repeat(bytes)))
        .uid("records")
        .rebalance()
        .process(move |_| Ok(Note { notes: File::create(&notes)?, records: 0 }))
        .slot_sharing_group("elsewhere")
        .uid("note")
        .sink(DiscardSink::new().0)
        .uid("out");
    env.execute("shuffle").map(drop)
}

/// Records a second.
fn records(bytes: usize, count: u64) -> Outcome<f64> {
    let mut members = Members::of("shuffle-job")?;
    let notes = members.path("notes");
    members.arg("--bytes", bytes);
    members.arg("--records", count);
    members.arg("--notes", &notes);
    members.spawn_jobmanager()?;
    for _ in 0..2 {
        members.spawn_taskmanager()?;
    }
    members.wait(0)?;
    let text = std::fs::read_to_string(notes)?;
    let note = |line: &str| -> Option<(f64, f64)> {
        let (at, count) = line.split_once(' ')?;
        Some((at.parse().ok()?, count.parse().ok()?))
    };
    let first = text.lines().next().and_then(note).ok_or("nothing was written down")?;
    let last = text.lines().last().and_then(note).ok_or("nothing was written down")?;
    Ok((last.1 - first.1) / (last.0 - first.0) * 1e6)
}
