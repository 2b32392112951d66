//! What programs that use libevent rely on.
