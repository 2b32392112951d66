//! `bufferevent_openssl`: TLS, and the little of OpenSSL's interface that it takes. Only in builds
//! with OpenSSL (`cfg(libevent_tls)`).

use crate::base::Base;
use crate::bufferevent::BufferEvent;
use crate::error::{Error, Result, non_null};
use crate::ffi::{self, SSL};
use std::ffi::{CStr, c_char, c_int, c_long, c_uchar, c_void};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};

/// OpenSSL's functions, the same in 1.1.1 and 3.
mod openssl {
    use super::{SSL, c_char, c_int, c_long, c_uchar, c_void};

    /// Number of Ed25519 in OpenSSL's table of objects.
    pub(super) const NID_ED25519: c_int = 1087;
    /// The string is ASCII.
    pub(super) const MBSTRING_ASC: c_int = 0x1001;
    /// X.509 version 3, as it is encoded.
    pub(super) const X509_VERSION_3: c_long = 2;

    unsafe extern "C" {
        pub(super) fn TLS_method() -> *const c_void;
        pub(super) fn SSL_CTX_new(method: *const c_void) -> *mut c_void;
        pub(super) fn SSL_CTX_free(context: *mut c_void);
        pub(super) fn SSL_CTX_use_certificate(context: *mut c_void, certificate: *mut c_void) -> c_int;
        pub(super) fn SSL_CTX_use_PrivateKey(context: *mut c_void, key: *mut c_void) -> c_int;
        pub(super) fn SSL_CTX_set_ciphersuites(context: *mut c_void, names: *const c_char) -> c_int;
        pub(super) fn SSL_CTX_set_num_tickets(context: *mut c_void, number: usize) -> c_int;
        pub(super) fn SSL_CTX_ctrl(context: *mut c_void, what: c_int, number: c_long, pointer: *mut c_void) -> c_long;
        pub(super) fn SSL_new(context: *mut c_void) -> *mut SSL;
        pub(super) fn SSL_free(connection: *mut SSL);
        pub(super) fn EVP_PKEY_CTX_new_id(kind: c_int, engine: *mut c_void) -> *mut c_void;
        pub(super) fn EVP_PKEY_CTX_free(context: *mut c_void);
        pub(super) fn EVP_PKEY_keygen_init(context: *mut c_void) -> c_int;
        pub(super) fn EVP_PKEY_keygen(context: *mut c_void, key: *mut *mut c_void) -> c_int;
        pub(super) fn EVP_PKEY_free(key: *mut c_void);
        pub(super) fn X509_new() -> *mut c_void;
        pub(super) fn X509_free(certificate: *mut c_void);
        pub(super) fn X509_set_version(certificate: *mut c_void, version: c_long) -> c_int;
        pub(super) fn X509_get_serialNumber(certificate: *mut c_void) -> *mut c_void;
        pub(super) fn ASN1_INTEGER_set(integer: *mut c_void, value: c_long) -> c_int;
        pub(super) fn X509_getm_notBefore(certificate: *const c_void) -> *mut c_void;
        pub(super) fn X509_getm_notAfter(certificate: *const c_void) -> *mut c_void;
        pub(super) fn X509_gmtime_adj(time: *mut c_void, offset_s: c_long) -> *mut c_void;
        pub(super) fn X509_set_pubkey(certificate: *mut c_void, key: *mut c_void) -> c_int;
        pub(super) fn X509_get_subject_name(certificate: *const c_void) -> *mut c_void;
        pub(super) fn X509_set_issuer_name(certificate: *mut c_void, name: *mut c_void) -> c_int;
        pub(super) fn X509_NAME_add_entry_by_txt(
            name: *mut c_void,
            field: *const c_char,
            kind: c_int,
            bytes: *const c_uchar,
            len: c_int,
            place: c_int,
            set: c_int,
        ) -> c_int;
        pub(super) fn X509_sign(certificate: *mut c_void, key: *mut c_void, digest: *const c_void) -> c_int;
    }
}

/// `SSL_CTX_set_min_proto_version` and its counterpart are macros over SSL_CTX_ctrl.
const SSL_CTRL_SET_MIN_PROTO_VERSION: c_int = 123;
const SSL_CTRL_SET_MAX_PROTO_VERSION: c_int = 124;
const TLS1_3_VERSION: c_long = 0x0304;

/// A piece of OpenSSL's memory and the function that frees it.
struct Owned(NonNull<c_void>, unsafe extern "C" fn(*mut c_void));

impl Owned {
    fn new(call: &'static str, raw: *mut c_void, free: unsafe extern "C" fn(*mut c_void)) -> Result<Self> {
        Ok(Owned(non_null(call, raw)?, free))
    }

    fn as_ptr(&self) -> *mut c_void {
        self.0.as_ptr()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: made by the constructor that belongs to the function; freed once.
        unsafe { (self.1)(self.as_ptr()) };
    }
}

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsSide {
    /// Waits for the handshake.
    Server,
    /// Begins the handshake; takes any certificate.
    Client,
}

/// Keys and settings of TLS connections: TLS 1.3 with one cipher suite, so that every run does the
/// same; a self-signed Ed25519 certificate that lives in memory alone.
pub struct TlsContext(Owned);

impl std::fmt::Debug for TlsContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsContext")
    }
}

impl TlsContext {
    /// Makes a key and a certificate and allows `cipher_suite` alone, such as
    /// `TLS_AES_128_GCM_SHA256`. No session tickets: they would be sent at a time of their own.
    ///
    /// # Errors
    /// OpenSSL refuses (it lacks Ed25519, TLS 1.3 or the suite), or out of memory.
    pub fn self_signed(cipher_suite: &CStr) -> Result<Self> {
        let key = new_key()?;
        let certificate = new_certificate(&key)?;
        // SAFETY: no precondition.
        let raw = unsafe { openssl::SSL_CTX_new(openssl::TLS_method()) };
        let context = Owned::new("SSL_CTX_new", raw, openssl::SSL_CTX_free)?;
        let raw = context.as_ptr();
        // SAFETY: all handles are alive; the context takes references of its own.
        unsafe {
            one("SSL_CTX_use_certificate", openssl::SSL_CTX_use_certificate(raw, certificate.as_ptr()))?;
            one("SSL_CTX_use_PrivateKey", openssl::SSL_CTX_use_PrivateKey(raw, key.as_ptr()))?;
            one("SSL_CTX_set_ciphersuites", openssl::SSL_CTX_set_ciphersuites(raw, cipher_suite.as_ptr()))?;
            one("SSL_CTX_set_num_tickets", openssl::SSL_CTX_set_num_tickets(raw, 0))?;
            for what in [SSL_CTRL_SET_MIN_PROTO_VERSION, SSL_CTRL_SET_MAX_PROTO_VERSION] {
                let done = openssl::SSL_CTX_ctrl(raw, what, TLS1_3_VERSION, ptr::null_mut());
                one("SSL_CTX_ctrl", done as c_int)?;
            }
        }
        Ok(TlsContext(context))
    }
}

impl BufferEvent {
    /// TLS over a connected, non-blocking socket, which it closes in the end. The handshake begins
    /// with the loop; `BEV_EVENT_CONNECTED` tells its end.
    ///
    /// # Errors
    /// Out of memory.
    pub fn tls_socket(
        base: &Base,
        socket: OwnedFd,
        context: &TlsContext,
        side: TlsSide,
        options: c_int,
    ) -> Result<Self> {
        let options = options | ffi::bufferevent_options::BEV_OPT_CLOSE_ON_FREE as c_int;
        let state = match side {
            TlsSide::Server => ffi::bufferevent_ssl_state::BUFFEREVENT_SSL_ACCEPTING,
            TlsSide::Client => ffi::bufferevent_ssl_state::BUFFEREVENT_SSL_CONNECTING,
        };
        // SAFETY: the context is alive; the connection takes a reference of its own.
        let ssl = non_null("SSL_new", unsafe { openssl::SSL_new(context.0.as_ptr()) })?;
        // SAFETY: base, descriptor and connection are alive; on success libevent owns the last two.
        let made = unsafe {
            let raw =
                ffi::bufferevent_openssl_socket_new(base.as_ptr(), socket.as_raw_fd(), ssl.as_ptr(), state, options);
            BufferEvent::from_raw(base, "bufferevent_openssl_socket_new", raw)
        };
        match made {
            Ok(made) => {
                let _: RawFd = socket.into_raw_fd();
                Ok(made)
            }
            Err(error) => {
                // SAFETY: libevent did not take the connection.
                unsafe { openssl::SSL_free(ssl.as_ptr()) };
                Err(error)
            }
        }
    }
}

fn new_key() -> Result<Owned> {
    // SAFETY: no precondition; no engine.
    let raw = unsafe { openssl::EVP_PKEY_CTX_new_id(openssl::NID_ED25519, ptr::null_mut()) };
    let generator = Owned::new("EVP_PKEY_CTX_new_id", raw, openssl::EVP_PKEY_CTX_free)?;
    let mut key = ptr::null_mut();
    // SAFETY: the generator is alive; it fills `key` or fails.
    unsafe {
        one("EVP_PKEY_keygen_init", openssl::EVP_PKEY_keygen_init(generator.as_ptr()))?;
        one("EVP_PKEY_keygen", openssl::EVP_PKEY_keygen(generator.as_ptr(), &raw mut key))?;
    }
    Owned::new("EVP_PKEY_keygen", key, openssl::EVP_PKEY_free)
}

/// A certificate of `key` for `localhost`, valid from an hour ago for a day.
fn new_certificate(key: &Owned) -> Result<Owned> {
    const HOUR_S: c_long = 3600;
    // SAFETY: no precondition.
    let certificate = Owned::new("X509_new", unsafe { openssl::X509_new() }, openssl::X509_free)?;
    let raw = certificate.as_ptr();
    let name = c"localhost";
    // SAFETY: certificate and key are alive; what the certificate hands out lives as long as it does.
    unsafe {
        one("X509_set_version", openssl::X509_set_version(raw, openssl::X509_VERSION_3))?;
        one("ASN1_INTEGER_set", openssl::ASN1_INTEGER_set(openssl::X509_get_serialNumber(raw), 1))?;
        non_null("X509_gmtime_adj", openssl::X509_gmtime_adj(openssl::X509_getm_notBefore(raw), -HOUR_S))?;
        non_null("X509_gmtime_adj", openssl::X509_gmtime_adj(openssl::X509_getm_notAfter(raw), 24 * HOUR_S))?;
        one("X509_set_pubkey", openssl::X509_set_pubkey(raw, key.as_ptr()))?;
        let subject = openssl::X509_get_subject_name(raw);
        let added = openssl::X509_NAME_add_entry_by_txt(
            subject,
            c"CN".as_ptr(),
            openssl::MBSTRING_ASC,
            name.as_ptr().cast(),
            -1,
            -1,
            0,
        );
        one("X509_NAME_add_entry_by_txt", added)?;
        one("X509_set_issuer_name", openssl::X509_set_issuer_name(raw, subject))?;
        // Ed25519 brings its own digest. The size of the signature is returned.
        one("X509_sign", openssl::X509_sign(raw, key.as_ptr(), ptr::null()))?;
    }
    Ok(certificate)
}

/// OpenSSL returns a positive number for success.
fn one(call: &'static str, returned: c_int) -> Result<()> {
    if returned > 0 { Ok(()) } else { Err(Error::last(call)) }
}
