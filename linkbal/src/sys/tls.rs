//! The authorities that this machine trusts as a client of TLS.

use std::{env, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::host::file;

/// Environment variable, as other programs have it: a file of certificates to trust instead of the
/// usual ones.
const TRUST_VARIABLE: &str = "SSL_CERT_FILE";

/// Returns the certificates to trust instead of the usual ones, in PEM, if there are some.
///
/// # Errors
///
/// If they cannot be read.
pub(super) fn own_certificates() -> Result<Option<Vec<u8>>> {
    let Some(path) = env::var_os(TRUST_VARIABLE).map(PathBuf::from) else { return Ok(None) };
    let text = file::read(&path, file::LARGE);
    text.map(Some).with_context(|| format!("failed to read {}", path.display()))
}

/// Returns the settings of a client. Reads a file, which may hang for some seconds.
///
/// # Errors
///
/// If the certificates to trust cannot be read.
pub(super) fn client() -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(trusted()?).with_no_client_auth()))
}

/// Returns the certificates of the file that is named, or Mozilla's.
fn trusted() -> Result<RootCertStore> {
    let Some(text) = own_certificates()? else {
        return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let failed = || format!("failed to read a certificate of {TRUST_VARIABLE}");
        roots.add(certificate.with_context(failed)?).with_context(failed)?;
    }
    Ok(roots)
}
