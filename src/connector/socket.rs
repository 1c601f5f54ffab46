//! Lines from a TCP connection: for demonstrations and tests, since what a socket has delivered is gone.

use super::line_buffer::{Line, LineBuffer};
use crate::error::{Error, Result};
use crate::function::{
    Collector, EnumeratorContext, ReaderContext, ReaderStatus, Source, SourceReader, SplitEnumerator,
    SplitQueue,
};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long connecting may keep the task from anything else.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How soon an idle connection is looked at again.
const IDLE_MS: i64 = 5;
/// Bytes read at once; also what one call of `poll` hands out at most, but for one line that began earlier.
const READ_BYTES: usize = 16 << 10;
const MAX_LINE_BYTES: usize = 1 << 20;

/// A source of the lines that a TCP server sends, until it closes the connection.
///
/// It cannot be replayed: what arrived after the last checkpoint is lost in a failure. One reader connects, whatever
/// the parallelism; after a restart it connects again. A line of more than 1 MiB, or one that is not UTF-8, fails
/// the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSource {
    host: String,
    port: u16,
}

/// The connection to make, with what has come over it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketSplit {
    /// Name or address of the server.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// Records read so far, over all connections.
    pub records: u64,
}

impl SocketSource {
    /// The lines that the server at `host`:`port` sends, without their ends (`\n` or `\r\n`).
    pub fn lines(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl Source for SocketSource {
    type Record = String;
    type Split = SocketSplit;

    fn is_bounded(&self) -> bool {
        false
    }

    fn is_replayable(&self) -> bool {
        false
    }

    fn enumerator(
        &self,
        _context: &EnumeratorContext,
        restored: Option<&[u8]>,
    ) -> Result<Box<dyn SplitEnumerator<SocketSplit>>> {
        if self.host.is_empty() || self.port == 0 {
            return Err(Error::config(format!("'{}:{}' is no address to connect to", self.host, self.port))
                .hint("give the socket source a host and a port above 0"));
        }
        let list = || Ok(vec![SocketSplit { host: self.host.clone(), port: self.port, records: 0 }]);
        Ok(Box::new(SplitQueue::new(restored, list).map_err(|e| e.at("socket source"))?))
    }

    fn reader(
        &self,
        _context: &ReaderContext,
    ) -> Result<Box<dyn SourceReader<Record = String, Split = SocketSplit>>> {
        let incoming = vec![0; READ_BYTES];
        Ok(Box::new(SocketReader { split: None, stream: None, incoming, buffer: LineBuffer::default() }))
    }
}

struct SocketReader {
    split: Option<SocketSplit>,
    stream: Option<TcpStream>,
    incoming: Vec<u8>,
    buffer: LineBuffer,
}

impl SocketSplit {
    fn place(&self) -> String {
        format!("socket {}:{}", self.host, self.port)
    }

    fn connect(&self) -> Result<TcpStream> {
        let failed = |e: io::Error| {
            Error::restart_job("cannot connect")
                .with_source(e)
                .hint("start a server there, for example 'nc -lk' with this port; the job tries again when restarted")
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs().map_err(failed)? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => return stream.set_nonblocking(true).map(|()| stream).map_err(failed),
                Err(e) => last = e,
            }
        }
        Err(failed(last))
    }
}

impl SourceReader for SocketReader {
    type Record = String;
    type Split = SocketSplit;

    fn add_split(&mut self, split: SocketSplit) -> Result<()> {
        if let Some(other) = &self.split {
            return Err(Error::bug("a second connection was handed to one reader").at(other.place()));
        }
        self.split = Some(split);
        self.buffer.reset(0);
        Ok(())
    }

    fn poll(&mut self, now_ms: i64, out: &mut Collector<'_, String>) -> Result<ReaderStatus> {
        let Some(split) = &mut self.split else { return Ok(ReaderStatus::NeedSplit) };
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(split.connect().map_err(|e| e.at(split.place()))?),
        };
        let at_end = match stream.read(&mut self.incoming) {
            Ok(read) => {
                self.buffer.extend(&self.incoming[..read]);
                read == 0
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Ok(ReaderStatus::WaitUntil(now_ms.saturating_add(IDLE_MS)));
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(ReaderStatus::More),
            Err(e) => {
                return Err(Error::restart_job("the connection broke").with_source(e).at(split.place()));
            }
        };
        self.buffer.seal(at_end);
        let too_long = |at| {
            Error::data(format!(
                "the line at byte {at} of this connection is longer than {MAX_LINE_BYTES} bytes"
            ))
            .hint("have the server send a line feed after every record")
        };
        loop {
            let at = self.buffer.position();
            match self.buffer.next_line() {
                Some(Line::Text(text)) if text.len() > MAX_LINE_BYTES => {
                    return Err(too_long(at).at(split.place()));
                }
                Some(Line::Text(text)) => {
                    out.collect_untimed(text.to_owned());
                    split.records += 1;
                }
                Some(Line::Invalid(byte)) => {
                    return Err(Error::data(format!(
                        "byte {} of this connection is not UTF-8",
                        at + byte as u64
                    ))
                    .hint("have the server send text")
                    .at(split.place()));
                }
                None => break,
            }
        }
        if self.buffer.pending() > MAX_LINE_BYTES {
            return Err(too_long(self.buffer.position()).at(split.place()));
        }
        if at_end {
            (self.split, self.stream) = (None, None);
            return Ok(ReaderStatus::NeedSplit);
        }
        Ok(ReaderStatus::More)
    }

    fn snapshot(&self) -> Result<Vec<SocketSplit>> {
        Ok(self.split.iter().cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::function::{NextSplit, SubtaskInfo};
    use crate::id::Attempt;
    use std::io::Write;
    use std::net::{Shutdown, TcpListener};

    type Reader = Box<dyn SourceReader<Record = String, Split = SocketSplit>>;

    fn reader_of(source: &SocketSource) -> Reader {
        let operator = "in".into();
        let subtask =
            SubtaskInfo { operator, index: 0, parallelism: 2, max_parallelism: 128, attempt: Attempt(1) };
        let mut queue = source.enumerator(&EnumeratorContext { parallelism: 2 }, None).unwrap();
        let mut reader = source.reader(&ReaderContext { subtask }).unwrap();
        let NextSplit::Split(split) = queue.next_split(1).unwrap() else { panic!("there is one connection") };
        assert_eq!(queue.next_split(0).unwrap(), NextSplit::NoMore, "and no second one");
        reader.add_split(split).unwrap();
        reader
    }

    fn poll(reader: &mut Reader, lines: &mut Vec<String>) -> Result<ReaderStatus> {
        let mut out = Collector::new(lines, 0);
        let status = reader.poll(1_000, &mut out)?;
        out.finish()?;
        Ok(status)
    }

    /// Polls until `wanted` lines are there or the reader says something else than to wait or go on.
    fn poll_for(reader: &mut Reader, lines: &mut Vec<String>, wanted: usize) -> Result<ReaderStatus> {
        loop {
            let status = poll(reader, lines)?;
            if lines.len() >= wanted || status == ReaderStatus::NeedSplit {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn listen() -> (TcpListener, SocketSource) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, SocketSource::lines("127.0.0.1", port))
    }

    #[test]
    fn lines_arrive_until_the_peer_closes() {
        let (listener, source) = listen();
        assert!(!source.is_replayable());
        let (mut reader, mut lines) = (reader_of(&source), Vec::new());
        assert_eq!(poll(&mut reader, &mut lines).unwrap(), ReaderStatus::WaitUntil(1_005));
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"one\r\ntw").unwrap();
        poll_for(&mut reader, &mut lines, 1).unwrap();
        assert_eq!(lines, ["one"]);
        assert_eq!(reader.snapshot().unwrap()[0].records, 1);
        peer.write_all("o\n\nthr\u{e9}e".as_bytes()).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(poll_for(&mut reader, &mut lines, 9).unwrap(), ReaderStatus::NeedSplit);
        assert_eq!(lines, ["one", "two", "", "thr\u{e9}e"]);
        assert_eq!(reader.snapshot().unwrap(), []);
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let (listener, source) = listen();
        let (mut reader, mut lines) = (reader_of(&source), Vec::new());
        poll(&mut reader, &mut lines).unwrap();
        listener.accept().unwrap().0.write_all(b"a\nb\xff\n").unwrap();
        let e = poll_for(&mut reader, &mut lines, 9).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Data);
        assert!(e.to_string().contains("byte 3 "), "{e}");
    }

    #[test]
    fn a_server_that_is_not_there_is_worth_a_restart() {
        let (listener, source) = listen();
        drop(listener);
        let e = poll(&mut reader_of(&source), &mut Vec::new()).unwrap_err();
        assert!(e.kind().is_recoverable());
        assert!(e.to_string().contains(&format!("127.0.0.1:{}", source.port)), "{e}");
        let nowhere = SocketSource::lines("localhost", 0);
        let e = nowhere.enumerator(&EnumeratorContext { parallelism: 1 }, None).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Config);
    }
}
