//! Authorities and certificates for tests.

#![allow(clippy::unwrap_used, dead_code, reason = "helpers of tests")]

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use std::path::{Path, PathBuf};

/// Signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) file: PathBuf,
}

/// A certificate with its key.
pub(crate) struct Certificate {
    pub(crate) file: PathBuf,
    pub(crate) key: PathBuf,
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        let (key, mut params) = (KeyPair::generate().unwrap(), named(name));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file = directory.join(format!("{name}.pem"));
        std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    pub(crate) fn sign(&self, directory: &Path, name: &str) -> Certificate {
        self.signed(directory, name, named(name))
    }

    /// A certificate that was good until 2001.
    pub(crate) fn sign_expired(&self, directory: &Path, name: &str) -> Certificate {
        let mut params = named(name);
        (params.not_before, params.not_after) = (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1));
        self.signed(directory, name, params)
    }

    fn signed(&self, directory: &Path, name: &str, params: CertificateParams) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let files = Certificate {
            file: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}.key")),
        };
        std::fs::write(&files.file, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}
