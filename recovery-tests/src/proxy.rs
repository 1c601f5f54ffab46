//! A proxy for TCP that does to connections what networks, and bugs in between, do to them.
//!
//! It runs on a thread of its own. What chance decides is drawn from a seed.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tidegate::testing::simulation::SeededRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

/// Bytes passed on at once.
const PIECE: usize = 16 << 10;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the side that has connected to the one behind the proxy.
    There,
    /// The other way.
    Back,
}

/// What happens, once, to every connection that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing passes any more in this direction, and nobody is told.
    Stall,
    /// This direction ends, as if its sender had ended it.
    HalfClose,
    /// Both directions end.
    Cut,
    /// Both directions are reset.
    Reset,
    /// One bit of the next piece flips.
    Corrupt,
    /// The next piece passes twice.
    Replay,
    /// The next piece is lost.
    Lose,
}

impl Trouble {
    /// All there are.
    pub const ALL: [Self; 7] =
        [Self::Stall, Self::HalfClose, Self::Cut, Self::Reset, Self::Corrupt, Self::Replay, Self::Lose];
}

/// How fast pieces pass, also those of connections to come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Before every piece.
    pub delay: Duration,
    /// Bytes per second; as many as come if absent.
    pub rate: Option<u32>,
}

struct Shared {
    target: Mutex<Option<SocketAddr>>,
    /// Of each connection, there and back.
    orders: Mutex<Vec<[UnboundedSender<Trouble>; 2]>>,
    paces: [watch::Sender<Pace>; 2],
    rng: Mutex<SeededRng>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A port that leads to another one.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Its connections end with it.
    _runtime: Runtime,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// A free port of this machine that leads to `target`.
    ///
    /// # Errors
    /// If there is no port or no thread.
    pub fn start(target: SocketAddr, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let shared = Arc::new(Shared {
            target: Mutex::new(Some(target)),
            orders: Mutex::default(),
            paces: [watch::Sender::default(), watch::Sender::default()],
            rng: Mutex::new(SeededRng::new(seed)),
        });
        runtime.spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, _runtime: runtime })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections have been made through it.
    pub fn connections(&self) -> usize {
        locked(&self.shared.orders).len()
    }

    /// Does this to every connection that stands.
    pub fn strike(&self, direction: Direction, trouble: Trouble) {
        for [there, back] in &*locked(&self.shared.orders) {
            let both = matches!(trouble, Trouble::Cut | Trouble::Reset);
            if both || direction == Direction::There {
                _ = there.send(trouble);
            }
            if both || direction == Direction::Back {
                _ = back.send(trouble);
            }
        }
    }

    /// From now on this is how fast bytes pass.
    pub fn set_pace(&self, direction: Direction, pace: Pace) {
        let [there, back] = &self.shared.paces;
        match direction {
            Direction::There => there.send_replace(pace),
            Direction::Back => back.send_replace(pace),
        };
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    while let Ok((client, _)) = listener.accept().await {
        let target = *locked(&shared.target);
        let Some(target) = target else { continue };
        let shared = shared.clone();
        #[expect(clippy::disallowed_methods, reason = "this is on the proxy's own runtime")]
        tokio::spawn(async move {
            // Whoever is behind the proxy and is gone is gone for those in front of it, too.
            let Ok(server) = TcpStream::connect(target).await else { return };
            _ = (client.set_nodelay(true), server.set_nodelay(true));
            let ((there_orders, there), (back_orders, back)) = (unbounded_channel(), unbounded_channel());
            locked(&shared.orders).push([there_orders, back_orders]);
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            let [there_pace, back_pace] = &shared.paces;
            tokio::join!(
                pass(client_read, server_write, there, there_pace.subscribe(), &shared.rng),
                pass(server_read, client_write, back, back_pace.subscribe(), &shared.rng),
            );
        });
    }
}

/// One direction of a connection.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut orders: UnboundedReceiver<Trouble>,
    pace: watch::Receiver<Pace>,
    rng: &Mutex<SeededRng>,
) {
    let (mut buffer, mut next, mut stalled) = (vec![0; PIECE], None, false);
    loop {
        let read = tokio::select! {
            biased;
            order = orders.recv() => {
                match order {
                    Some(Trouble::Stall) => stalled = true,
                    // Ends with the end of this direction of both sockets.
                    Some(Trouble::Cut) | None => return,
                    Some(Trouble::HalfClose) => {
                        drop(to);
                        return swallow(from, orders).await;
                    }
                    Some(Trouble::Reset) => {
                        _ = to.as_ref().set_zero_linger();
                        to.forget();
                        return;
                    }
                    other => next = other,
                }
                continue;
            }
            read = from.read(&mut buffer), if !stalled => read,
        };
        let Ok(length @ 1..) = read else { return };
        let Pace { delay, rate } = *pace.borrow();
        let paused = rate.map_or(0.0, |rate| length as f64 / f64::from(rate.max(1)));
        if !delay.is_zero() || rate.is_some() {
            tokio::time::sleep(delay + Duration::from_secs_f64(paused)).await;
        }
        let Some(piece) = buffer.get_mut(..length) else { return };
        let times = match next.take() {
            Some(Trouble::Lose) => 0,
            Some(Trouble::Replay) => 2,
            Some(Trouble::Corrupt) => {
                let bit = locked(rng).between(0, length as u64 * 8) as usize;
                if let Some(byte) = piece.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                1
            }
            _ => 1,
        };
        for _ in 0..times {
            if to.write_all(piece).await.is_err() {
                return;
            }
        }
    }
}

/// Takes what still comes, until there is no more or the connection is cut.
async fn swallow(mut from: OwnedReadHalf, mut orders: UnboundedReceiver<Trouble>) {
    let mut buffer = vec![0; PIECE];
    loop {
        tokio::select! {
            order = orders.recv() => {
                if matches!(order, None | Some(Trouble::Cut | Trouble::Reset)) {
                    return;
                }
            }
            read = from.read(&mut buffer) => {
                if !matches!(read, Ok(1..)) {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    /// What comes out of a proxy in front of somebody who listens, for two pieces and a trouble in between.
    fn between_two_pieces(trouble: Trouble) -> (Vec<u8>, io::Result<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap(), 1).unwrap();
        let mut client = std::net::TcpStream::connect(proxy.address()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.write_all(b"one").unwrap();
        let mut seen = vec![0; 3];
        server.read_exact(&mut seen).unwrap();
        proxy.strike(Direction::There, trouble);
        // The order is there before the bytes: it goes first.
        _ = client.write_all(b"two");
        _ = client.shutdown(std::net::Shutdown::Write);
        let end = server.read_to_end(&mut seen).map(|_| ());
        (seen, end)
    }

    #[test]
    fn every_trouble_does_what_it_says() {
        let (seen, end) = between_two_pieces(Trouble::Replay);
        assert!(seen == b"onetwotwo" && end.is_ok());
        let (seen, end) = between_two_pieces(Trouble::Lose);
        assert!(seen == b"one" && end.is_ok());
        let (seen, end) = between_two_pieces(Trouble::Corrupt);
        let flipped: u32 = seen.iter().zip(b"onetwo").map(|(a, b)| (a ^ b).count_ones()).sum();
        assert!(seen.len() == 6 && flipped == 1 && end.is_ok(), "{seen:?}");
        let (seen, end) = between_two_pieces(Trouble::Stall);
        assert!(seen == b"one" && end.is_err(), "nothing comes, not even the end");
        for trouble in [Trouble::Cut, Trouble::HalfClose] {
            let (seen, end) = between_two_pieces(trouble);
            assert!(seen == b"one" && end.is_ok(), "{trouble:?}");
        }
        let (seen, end) = between_two_pieces(Trouble::Reset);
        assert_eq!(seen, b"one");
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
