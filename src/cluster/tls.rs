//! Encryption between the processes of a cluster, and with the commands of people: TLS 1.3, in which both ends show a
//! certificate of one authority.
//!
//! That authority is the border of the cluster: whoever has a certificate of it is let in. Names in certificates are not
//! compared, as members come and go at any address. What the authority signs must therefore be for one cluster only.

use crate::error::{Error, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
};
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// How long a peer that is refused may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);
/// Name of the protocol of commands and heartbeats.
pub(crate) const CONTROL_PLANE: &[u8] = b"h2";
/// Name of the protocol of records.
pub(crate) const DATA_PLANE: &[u8] = b"tidegate-data";

/// The files, in PEM, by which a process shows that it belongs to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The certificate of the authority; several during a change.
    pub authority: PathBuf,
}

/// Both ends of encrypted connections.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files, for connections of one protocol.
    ///
    /// # Errors
    /// A config error that names the file that is missing or wrong.
    pub(crate) fn load(files: &TlsFiles, protocol: &[u8]) -> Result<Self> {
        // Named here, so that no other crate of the program can have another word in it.
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| {
            at(&files.key, Error::config("holds no private key that can be read").with_source(e))
        })?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&files.authority)? {
            roots
                .add(certificate)
                .map_err(|e| at(&files.authority, Error::config("cannot be an authority").with_source(e)))?;
        }
        let roots = Arc::new(roots);
        let unfit = |e: rustls::Error| {
            at(&files.certificate, Error::config("does not go with its key").with_source(e))
                .hint(format!("is {} the key of this certificate?", files.key.display()))
        };
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
                .build()
                .map_err(|e| at(&files.authority, Error::config("cannot be an authority").with_source(e)))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(unfit)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(unfit)?;
        // Every connection shows its certificate: one that has expired must not live on in a session.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.alpn_protocols = vec![protocol.to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(unfit)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(OfAuthority { roots, provider }))
            .with_client_auth_cert(chain, key)
            .map_err(unfit)?;
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        client.alpn_protocols = vec![protocol.to_vec()];
        Ok(Self {
            connector: TlsConnector::from(Arc::new(client)),
            acceptor: TlsAcceptor::from(Arc::new(server)),
        })
    }

    /// Encrypts a connection that was made to `peer`. That the peer refuses this process may only show when something is
    /// read: see [`refusal_in`].
    ///
    /// # Errors
    /// A config error if the two do not trust each other; a retry error if the connection breaks.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        peer: &str,
    ) -> Result<client::TlsStream<TcpStream>> {
        let name = ServerName::try_from("tidegate.invalid")
            .map_err(|e| Error::bug("a constant is no name").with_source(e))?;
        self.connector.connect(name, stream).await.map_err(|e| match refusal_in(&e, peer) {
            Some(refusal) => refusal,
            None => Error::retry(format!("{peer} breaks off the TLS handshake: {e}"))
                .hint("does it have the cluster.tls options?"),
        })
    }

    /// Encrypts a connection that has come in.
    ///
    /// # Errors
    /// A config error that says why the peer is refused. It has been told.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Result<server::TlsStream<TcpStream>> {
        match self.acceptor.accept(stream).into_fallible().await {
            Ok(stream) => Ok(stream),
            Err((e, mut stream)) => {
                // A connection closed with something unread is reset, and the reason could be lost on the way.
                let farewell = async {
                    _ = stream.shutdown().await;
                    let mut rest = [0; 512];
                    while stream.read(&mut rest).await.is_ok_and(|length| length > 0) {}
                };
                _ = tokio::time::timeout(FAREWELL, farewell).await;
                Err(refusal_in(&e, "the peer")
                    .unwrap_or_else(|| Error::config("the TLS handshake was broken off").with_source(e)))
            }
        }
    }
}

/// What the files have to say of `path`.
fn at(path: &Path, e: Error) -> Error {
    e.at(path.display())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let found = read()
        .map_err(|e| at(path, Error::config("holds no certificate that can be read").with_source(e)))?;
    if found.is_empty() {
        return Err(at(path, Error::config("holds no certificate").hint("it has to be in PEM")));
    }
    Ok(found)
}

/// Why `peer` and this process do not trust each other, if that is what an error comes from.
pub(crate) fn refusal_in(e: &(dyn StdError + 'static), peer: &str) -> Option<Error> {
    let mut cause = Some(e);
    while let Some(e) = cause {
        // The source of an I/O error is that of what it wraps, not what it wraps.
        let inner = e.downcast_ref::<io::Error>().and_then(|e| e.get_ref());
        let found = e.downcast_ref::<rustls::Error>();
        if let Some(e) = found.or_else(|| inner.and_then(|inner| inner.downcast_ref::<rustls::Error>())) {
            return refusal(e, peer);
        }
        cause = match inner {
            Some(inner) => Some(inner),
            None => e.source(),
        };
    }
    None
}

fn refusal(e: &rustls::Error, peer: &str) -> Option<Error> {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    let (what, hint) = match e {
        rustls::Error::InvalidCertificate(Expired | ExpiredContext { .. }) => {
            (format!("the certificate of {peer} has expired"), "give it a new one")
        }
        rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. }) => {
            (format!("the certificate of {peer} is not valid yet"), "compare the clocks of the machines")
        }
        rustls::Error::InvalidCertificate(why) => (
            format!("the certificate of {peer} is refused: {why}"),
            "all members need certificates of the authority in cluster.tls.authority",
        ),
        rustls::Error::NoCertificatesPresented => {
            (format!("{peer} shows no certificate"), "give it the cluster.tls options")
        }
        rustls::Error::AlertReceived(why) => (
            format!("{peer} refuses the certificate of this process: {why:?}"),
            "it has to be valid, and signed by the authority in the peer's cluster.tls.authority",
        ),
        rustls::Error::InvalidMessage(_) => {
            (format!("{peer} does not speak TLS"), "give all members the cluster.tls options, or none")
        }
        _ => return None,
    };
    Some(Error::config(what).hint(hint))
}

/// Takes servers with a certificate of the authority, whatever they are called.
#[derive(Debug)]
struct OfAuthority {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OfAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
