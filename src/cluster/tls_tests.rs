//! Who trusts whom, over real sockets.

use super::*;
use crate::cluster::test_certificates::{Authority, Certificate};
use crate::error::ErrorKind;
use tokio::net::TcpListener;

fn tls(certificate: &Certificate, authority: &Authority, protocol: &[u8]) -> Tls {
    let files = TlsFiles {
        certificate: certificate.file.clone(),
        key: certificate.key.clone(),
        authority: authority.file.clone(),
    };
    Tls::load(&files, protocol).unwrap()
}

/// What both ends say: the one that calls, with what it finds when it reads, and the one that is called.
fn meet(client: Option<&Tls>, server: Option<&Tls>) -> (Result<String>, Result<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let mut said = String::new();
            let read = match client {
                Some(tls) => tls.connect(stream, "the server").await?.read_to_string(&mut said).await,
                None => {
                    stream.write_all(b"in clear text").await.unwrap();
                    let mut said = Vec::new();
                    stream.read_to_end(&mut said).await
                }
            };
            match read {
                Ok(_) => Ok(said),
                Err(e) => Err(refusal_in(&e, "the server").unwrap_or_else(|| e.into())),
            }
        };
        let is_called = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            match server {
                Some(tls) => {
                    let mut stream = tls.accept(stream).await?;
                    stream.write_all(b"welcome").await?;
                    Ok(stream.shutdown().await?)
                }
                None => {
                    stream.write_all(b"in clear text").await?;
                    let mut said = [0; 64];
                    _ = stream.read(&mut said).await?;
                    Ok(())
                }
            }
        };
        tokio::join!(calls, is_called)
    })
}

#[test]
fn only_certificates_of_the_authority_are_let_in() {
    let temp = tempfile::tempdir().unwrap();
    let (own, other) = (Authority::new(temp.path(), "own"), Authority::new(temp.path(), "other"));
    let member = tls(&own.sign(temp.path(), "member"), &own, CONTROL_PLANE);
    let sibling = tls(&own.sign(temp.path(), "sibling"), &own, CONTROL_PLANE);
    let (said, heard) = meet(Some(&sibling), Some(&member));
    heard.unwrap();
    assert_eq!(said.unwrap(), "welcome");

    let foreign = other.sign(temp.path(), "foreign");
    let expired = own.sign_expired(temp.path(), "expired");
    let cases = [
        // Knows the authority, and has a certificate of another.
        (tls(&foreign, &own, CONTROL_PLANE), "the server refuses the certificate of this process: UnknownCA"),
        (
            tls(&expired, &own, CONTROL_PLANE),
            "the server refuses the certificate of this process: CertificateExpired",
        ),
        (tls(&foreign, &other, CONTROL_PLANE), "the certificate of the server is refused: "),
        (tls(&own.sign(temp.path(), "records"), &own, DATA_PLANE), "NoApplicationProtocol"),
    ];
    for (stranger, expected) in cases {
        let (said, heard) = meet(Some(&stranger), Some(&member));
        let said = said.unwrap_err();
        assert!(said.to_string().contains(expected), "{expected}: {said}");
        assert_eq!(said.kind(), ErrorKind::Config);
        assert_eq!(heard.unwrap_err().kind(), ErrorKind::Config);
    }
    // The one that calls is as strict.
    let late = tls(&expired, &own, CONTROL_PLANE);
    let said = meet(Some(&member), Some(&late)).0.unwrap_err().to_string();
    assert!(said.contains("the certificate of the server has expired"), "{said}");
}

#[test]
fn clear_text_is_refused_on_both_sides() {
    let temp = tempfile::tempdir().unwrap();
    let own = Authority::new(temp.path(), "own");
    let member = tls(&own.sign(temp.path(), "member"), &own, CONTROL_PLANE);
    let heard = meet(None, Some(&member)).1.unwrap_err().to_string();
    assert!(heard.contains("the peer does not speak TLS"), "{heard}");
    let said = meet(Some(&member), None).0.unwrap_err().to_string();
    assert!(said.contains("the server does not speak TLS"), "{said}");
}

#[test]
fn files_that_are_wrong_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let own = Authority::new(temp.path(), "own");
    let (one, two) = (own.sign(temp.path(), "one"), own.sign(temp.path(), "two"));
    let load = |certificate: &Path, key: &Path, authority: &Path| {
        let files = TlsFiles {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            authority: authority.to_owned(),
        };
        Tls::load(&files, CONTROL_PLANE).unwrap_err().to_string()
    };
    let missing = temp.path().join("missing");
    assert!(load(&missing, &one.key, &own.file).contains("missing: holds no certificate that can be read"));
    assert!(load(&one.file, &one.file, &own.file).contains("one.pem: holds no private key"));
    assert!(
        load(&one.key, &one.key, &own.file).contains("one.key: holds no certificate (it has to be in PEM)")
    );
    assert!(load(&one.file, &one.key, &missing).contains("missing: holds no certificate"));
    let mixed = load(&one.file, &two.key, &own.file);
    assert!(mixed.contains("one.pem: does not go with its key") && mixed.contains("two.key"), "{mixed}");
}
