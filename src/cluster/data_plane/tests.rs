//! Channels between two taskmanagers over real sockets.

use super::*;
use crate::cluster::TlsFiles;
use crate::cluster::taskmanager::Hubs;
use crate::cluster::test_certificates::Authority;
use crate::cluster::tls::DATA_PLANE;
use crate::error::{Error, Result};
use crate::function::NO_TIMESTAMP;
use crate::id::{Attempt, SubtaskId, VertexId};
use crate::operator::Batch;
use crate::task::channel::Element;
use crate::task::ends::{ReceiveEnd, SendEnd};
use crate::task::hub::{ChannelId, Routes};
use crate::task::remote::Sent;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

const PATIENCE: Duration = Duration::from_millis(1500);
/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(30);

fn config(secret: &str) -> Arc<DataPlaneConfig> {
    encrypted(secret, None)
}

fn encrypted(secret: &str, tls: Option<Tls>) -> Arc<DataPlaneConfig> {
    let job = JobId::from("job".to_owned());
    Arc::new(DataPlaneConfig {
        job,
        secret: secret.to_owned(),
        tls,
        patience: PATIENCE,
        nonces: Nonces::new(1),
    })
}

/// A sender and a receiver, as two taskmanagers would be.
struct Pair {
    runtime: Runtime,
    plane: Arc<DataPlane>,
    listener: Option<DataListener>,
    address: String,
    sending: Hubs,
    receiving: Arc<Hubs>,
}

fn id(edge: usize) -> ChannelId {
    let subtask = |vertex| SubtaskId { vertex: VertexId(vertex), index: 0 };
    ChannelId { edge, from: subtask(0), to: subtask(1) }
}

impl Pair {
    fn new() -> Self {
        Self::with_secrets("s", "s")
    }

    fn with_secrets(ours: &str, theirs: &str) -> Self {
        Self::with_configs(config(ours), config(theirs))
    }

    fn with_configs(ours: Arc<DataPlaneConfig>, theirs: Arc<DataPlaneConfig>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let receiving = Arc::new(Hubs::default());
        let listener = runtime.block_on(DataListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let listener = DataListener::start(listener, theirs, receiving.clone(), runtime.handle());
        let plane = Arc::new(DataPlane::new(ours, runtime.handle().clone()));
        Self { plane, listener: Some(listener), address, sending: Hubs::default(), receiving, runtime }
    }

    fn ends(&self, attempt: u32, edge: usize) -> (SendEnd<u64>, ReceiveEnd<u64>) {
        self.ends_through(&self.address, attempt, edge)
    }

    fn ends_through(&self, address: &str, attempt: u32, edge: usize) -> (SendEnd<u64>, ReceiveEnd<u64>) {
        let attempt = Attempt(attempt.into());
        let routes = |subtask, address: &str| Routes {
            attempt,
            elsewhere: [(subtask, Arc::from(address))].into(),
            network: self.plane.clone(),
        };
        let (from, to) = (self.sending.of(attempt, attempt), self.receiving.of(attempt, attempt));
        from.set_routes(routes(id(0).to, address));
        to.set_routes(routes(id(0).from, "never used: nothing is sent back"));
        (from.sender(id(edge)).unwrap(), to.receiver(id(edge)).unwrap())
    }
}

fn batch(first: u64, records: u64) -> Batch<u64> {
    let mut batch = Batch::default();
    (first..first + records).for_each(|n| batch.push_hashed(n, NO_TIMESTAMP, n));
    batch.bytes = 1;
    batch
}

/// What `look` finds, sooner or later.
fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LONG.as_millis() * 5 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    panic!("{what}")
}

/// Sends as soon as there is room.
fn send(end: &SendEnd<u64>, element: Element<u64>) -> Result<()> {
    let mut waiting = Some(element);
    eventually("no room", || match end.try_send(waiting.take()?) {
        Ok(Sent::Taken(_)) => Some(Ok(())),
        Ok(Sent::Full(back)) => {
            waiting = Some(back);
            None
        }
        Err(e) => Some(Err(e)),
    })
}

fn receive(end: &ReceiveEnd<u64>) -> Result<Element<u64>> {
    eventually("nothing came", || end.try_receive().transpose())
}

fn failure<T>(mut call: impl FnMut() -> Result<T>) -> Error {
    eventually("no failure", || call().err())
}

#[test]
fn records_arrive_once_in_order_however_slow_the_receiver_is() {
    let pair = Pair::new();
    let (tx, rx) = pair.ends(1, 0);
    let total = 400_000u64;
    let sender = std::thread::Builder::new().spawn(move || {
        for first in (0..total).step_by(1000) {
            send(&tx, Element::Batch(batch(first, 1000))).unwrap();
            if first % 50_000 == 0 {
                send(&tx, Element::Watermark(first as i64)).unwrap();
            }
        }
        send(&tx, Element::End).unwrap();
        tx
    });
    let (mut next, mut watermarks) = (0u64, 0);
    loop {
        match receive(&rx).unwrap() {
            Element::Batch(mut batch) => {
                batch
                    .drain_each(|n, _, hash| {
                        assert_eq!((n, hash), (next, next));
                        next += 1;
                        Ok::<_, ()>(())
                    })
                    .unwrap();
                rx.recycle(batch);
            }
            Element::Watermark(w) => {
                assert_eq!(w as u64 + 1000, next);
                watermarks += 1;
            }
            Element::End => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((next, watermarks), (total, 8));
    drop(sender.unwrap().join().unwrap());
}

/// One channel that nobody reads holds up neither the others nor its own barrier.
#[test]
fn a_channel_that_is_not_read_holds_up_no_other() {
    let pair = Pair::new();
    let ((stuck, unread), (tx, rx)) = (pair.ends(1, 0), pair.ends(1, 1));
    let mut filled = 0;
    while let Sent::Taken(_) = stuck.try_send(Element::Batch(batch(0, 1000))).unwrap() {
        filled += 1;
        assert!(filled < 100_000, "never full");
    }
    send(&stuck, Element::Watermark(7)).unwrap();
    for first in 0..2000 {
        send(&tx, Element::Batch(batch(first, 1))).unwrap();
        assert!(matches!(receive(&rx).unwrap(), Element::Batch(b) if b.values == [first]));
    }
    (0..filled).for_each(|_| assert!(matches!(receive(&unread).unwrap(), Element::Batch(_))));
    assert!(matches!(receive(&unread).unwrap(), Element::Watermark(7)));
}

#[test]
fn a_peer_that_goes_breaks_off_both_ends_and_the_next_attempt_connects_again() {
    let mut pair = Pair::new();
    let (tx, rx) = pair.ends(1, 0);
    send(&tx, Element::Batch(batch(0, 1))).unwrap();
    receive(&rx).unwrap();
    drop(pair.listener.take());
    let sent = failure(|| tx.try_send(Element::Idle(true)));
    let received = failure(|| rx.try_receive());
    assert!(sent.to_string().contains("the connection to the taskmanager at 127.0.0.1:"), "{sent}");
    assert!(received.to_string().contains("has left the cluster"), "{received}");
    let again = pair.runtime.block_on(DataListener::bind("127.0.0.1:0")).unwrap();
    pair.address = again.local_addr().unwrap().to_string();
    let again = DataListener::start(again, config("s"), pair.receiving.clone(), pair.runtime.handle());
    pair.listener = Some(again);
    let (tx, rx) = pair.ends(2, 0);
    send(&tx, Element::Batch(batch(5, 1))).unwrap();
    assert!(matches!(receive(&rx).unwrap(), Element::Batch(b) if b.values == [5]));
    assert_eq!(pair.plane.connections(), 1, "nothing is left of the one before");
}

#[test]
fn strangers_are_refused_with_a_reason() {
    let pair = Pair::with_secrets("guess", "s");
    let (tx, _rx) = pair.ends(1, 0);
    let e = failure(|| tx.try_send(Element::Idle(true))).to_string();
    assert!(e.contains("the secret is not that of this cluster"), "{e}");
    // Something that speaks another protocol is hung up on.
    let answer = pair.runtime.block_on(async {
        let mut stream = TcpStream::connect(&pair.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.map(|read| read.unwrap_or(0))
    });
    assert_eq!(answer, Ok(0));
}

#[test]
fn records_travel_encrypted_and_only_between_members() {
    let temp = tempfile::tempdir().unwrap();
    let (own, other) = (Authority::new(temp.path(), "own"), Authority::new(temp.path(), "other"));
    let tls = |authority: &Authority, name: &str| {
        let certificate = authority.sign(temp.path(), name);
        let files =
            TlsFiles { certificate: certificate.file, key: certificate.key, authority: own.file.clone() };
        Some(Tls::load(&files, DATA_PLANE).unwrap())
    };
    let pair = Pair::with_configs(encrypted("s", tls(&own, "one")), encrypted("s", tls(&own, "two")));
    let (tx, rx) = pair.ends(1, 0);
    for first in 0..50 {
        send(&tx, Element::Batch(batch(first * 1000, 1000))).unwrap();
        assert!(matches!(receive(&rx).unwrap(), Element::Batch(b) if b.values[0] == first * 1000));
    }
    for (ours, why) in [(tls(&other, "three"), "UnknownCA"), (None, "")] {
        let pair = Pair::with_configs(encrypted("s", ours), encrypted("s", tls(&own, "two")));
        let (tx, rx) = pair.ends(1, 0);
        let e = failure(|| tx.try_send(Element::Idle(true))).to_string();
        assert!(e.contains("the connection to the taskmanager at") && e.contains(why), "{e}");
        assert!(matches!(rx.try_receive(), Ok(None)));
    }
}

#[test]
fn what_an_old_attempt_sends_reaches_nobody() {
    let pair = Pair::new();
    let (new_tx, new_rx) = pair.ends(5, 0);
    let routes = Routes {
        attempt: Attempt(4),
        elsewhere: [(id(0).to, Arc::from(pair.address.as_str()))].into(),
        network: pair.plane,
    };
    let zombie = crate::task::ExchangeHub::default();
    zombie.set_routes(routes);
    let old_tx: SendEnd<u64> = zombie.sender(id(0)).unwrap();
    while let Sent::Taken(_) = old_tx.try_send(Element::Batch(batch(66, 1000))).unwrap() {}
    send(&new_tx, Element::Batch(batch(1, 1))).unwrap();
    assert!(matches!(receive(&new_rx).unwrap(), Element::Batch(b) if b.values == [1]));
    assert!(matches!(new_rx.try_receive(), Ok(None)));
    assert!(matches!(old_tx.try_send(Element::Batch(batch(66, 1))), Ok(Sent::Full(_))), "it gets no credit");
}

/// Stands between the two and does to the bytes what it is told: flips one, or stops passing them on.
fn proxy(pair: &Pair, flip_at: Option<usize>, stall_at: usize) -> String {
    let to = pair.address.clone();
    pair.runtime.block_on(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let carry = async move {
            let (client, _) = listener.accept().await.unwrap();
            let (mut client_read, mut client_write) = client.into_split();
            let (mut server_read, mut server_write) = TcpStream::connect(to).await.unwrap().into_split();
            let back = async move { tokio::io::copy(&mut server_read, &mut client_write).await };
            let there = async move {
                let (mut buffer, mut seen) = ([0; 4096], 0);
                while let Ok(n @ 1..) = client_read.read(&mut buffer).await {
                    if let Some(at) = flip_at
                        && (seen..seen + n).contains(&at)
                    {
                        buffer[at - seen] ^= 1;
                    }
                    seen += n;
                    if seen > stall_at {
                        std::future::pending::<()>().await;
                    }
                    server_write.write_all(&buffer[..n]).await.unwrap();
                }
            };
            tokio::join!(back, there)
        };
        pair.runtime.spawn(carry);
        address
    })
}

#[test]
fn damage_on_the_way_is_found() {
    let pair = Pair::new();
    let address = proxy(&pair, Some(20_000), usize::MAX);
    let (tx, rx) = pair.ends_through(&address, 1, 0);
    // The later ones may fail already.
    _ = (0..20).try_for_each(|n| send(&tx, Element::Batch(batch(n, 1000))));
    let mut received = 0;
    let e = loop {
        match receive(&rx) {
            Ok(_) => received += 1,
            Err(e) => break e.to_string(),
        }
    };
    assert!(e.contains("a frame is damaged") && received < 20, "{e} after {received}");
    failure(|| tx.try_send(Element::Idle(true)));
}

#[test]
fn a_peer_that_falls_silent_is_given_up_by_both_ends() {
    let pair = Pair::new();
    let address = proxy(&pair, None, 20_000);
    let (tx, rx) = pair.ends_through(&address, 1, 0);
    while let Sent::Taken(_) = tx.try_send(Element::Batch(batch(0, 1000))).unwrap() {}
    let received = failure(|| rx.try_receive()).to_string();
    assert!(received.contains("nothing was heard for 1500 ms"), "{received}");
    failure(|| tx.try_send(Element::Idle(true)));
}

/// Says all of it to the receiver, and returns what comes back until it hangs up.
fn say(pair: &Pair, bytes: &[u8]) -> Vec<u8> {
    pair.runtime.block_on(async {
        let mut stream = TcpStream::connect(&pair.address).await.unwrap();
        let mut answer = Vec::new();
        let both = async {
            _ = stream.write_all(bytes).await;
            // What was not read when it hung up resets the connection.
            _ = stream.read_to_end(&mut answer).await;
        };
        tokio::time::timeout(LONG, both).await.expect("it hangs up");
        answer
    })
}

/// Passes bytes on, and remembers those of the sender.
fn recorder(pair: &Pair) -> (String, Arc<std::sync::Mutex<Vec<u8>>>) {
    let (to, recorded) = (pair.address.clone(), Arc::new(std::sync::Mutex::new(Vec::new())));
    let into = recorded.clone();
    let address = pair.runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        pair.runtime.spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            let (mut client_read, mut client_write) = client.into_split();
            let (mut server_read, mut server_write) = TcpStream::connect(to).await.unwrap().into_split();
            let back = async move { tokio::io::copy(&mut server_read, &mut client_write).await };
            let there = async move {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = client_read.read(&mut buffer).await {
                    into.lock().unwrap().extend_from_slice(&buffer[..n]);
                    server_write.write_all(&buffer[..n]).await.unwrap();
                }
            };
            tokio::join!(back, there)
        });
        address
    });
    (address, recorded)
}

#[test]
fn a_recorded_connection_is_not_taken_a_second_time() {
    let pair = Pair::new();
    let (address, recorded) = recorder(&pair);
    let (tx, rx) = pair.ends_through(&address, 1, 0);
    send(&tx, Element::Batch(batch(0, 1))).unwrap();
    assert!(matches!(receive(&rx).unwrap(), Element::Batch(_)));
    let recorded = recorded.lock().unwrap().clone();
    assert!(recorded.starts_with(b"tidedat2") && recorded.len() > 50);
    let answer = say(&pair, &recorded);
    assert!(answer.len() <= 16, "no welcome: {answer:?}");
    // The one that was recorded is none the worse for it.
    send(&tx, Element::Batch(batch(1, 1))).unwrap();
    assert!(matches!(receive(&rx).unwrap(), Element::Batch(b) if b.values == [1]));
    assert!(matches!(rx.try_receive(), Ok(None)));
}

#[test]
fn a_channel_that_is_open_is_not_opened_by_another_sender() {
    let pair = Pair::new();
    let (tx, rx) = pair.ends(1, 0);
    send(&tx, Element::Batch(batch(0, 1))).unwrap();
    receive(&rx).unwrap();
    let other = DataPlane::new(config("s"), pair.runtime.handle().clone());
    let second = crate::task::hub::Network::open(&other, &pair.address, Attempt(1), id(0));
    failure(|| second.try_send(Element::<u64>::Idle(true)));
    send(&tx, Element::Batch(batch(1, 1))).unwrap();
    assert!(matches!(receive(&rx).unwrap(), Element::Batch(b) if b.values == [1]));
}

#[test]
fn one_of_another_version_learns_which_it_is() {
    let pair = Pair::new();
    let answer = say(&pair, b"tidedat901234567");
    assert!(answer.starts_with(b"tidedat2") && answer.len() == 16, "{answer:?}");
    // The other way round: a receiver of another version.
    let address = pair.runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        pair.runtime.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(b"tidedat901234567").await.unwrap();
                _ = stream.read_to_end(&mut Vec::new()).await;
            }
        });
        address
    });
    let (tx, _rx) = pair.ends_through(&address, 1, 0);
    let e = failure(|| tx.try_send(Element::Idle(true))).to_string();
    assert!(e.contains("it speaks version '9' of the data frames, this process '2'"), "{e}");
}
