//! Forks within a case.

use std::io;

/// The case goes on in a child; this process closes what it holds, waits and ends like its child.
///
/// # Errors
/// No fork.
pub(crate) fn go_on_in_child() -> Result<(), String> {
    let gate = pipe()?;
    // SAFETY: this process has one thread; plain system calls.
    unsafe {
        match libc::fork() {
            -1 => Err(format!("fork: {}", io::Error::last_os_error())),
            0 => {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::close(gate[1]);
                // Until the parent has closed its copies: a descriptor closed here is then really closed.
                let mut byte = 0_u8;
                libc::read(gate[0], (&raw mut byte).cast(), 1);
                libc::close(gate[0]);
                Ok(())
            }
            child => {
                libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
                let status = wait(child);
                if libc::WIFSIGNALED(status) {
                    libc::signal(libc::WTERMSIG(status), libc::SIG_DFL);
                    libc::raise(libc::WTERMSIG(status));
                }
                libc::_exit(libc::WEXITSTATUS(status))
            }
        }
    }
}

/// Does something in a child, which then ends.
///
/// # Errors
/// That of `what`, without its words if the child could not print them; or no fork.
pub(crate) fn in_child(what: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    // SAFETY: this process has one thread; plain system calls.
    unsafe {
        match libc::fork() {
            -1 => Err(format!("fork: {}", io::Error::last_os_error())),
            0 => {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                let failed = what().inspect_err(|error| eprintln!("in a child: {error}")).is_err();
                libc::_exit(i32::from(failed))
            }
            child => match wait(child) {
                0 => Ok(()),
                status if libc::WIFSIGNALED(status) => {
                    Err(format!("a child was killed by signal {}", libc::WTERMSIG(status)))
                }
                status => Err(format!("a child exited with {}", libc::WEXITSTATUS(status))),
            },
        }
    }
}

fn wait(child: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: our child, not reaped yet.
    while unsafe { libc::waitpid(child, &raw mut status, 0) } < 0 {
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return 1 << 8;
        }
    }
    status
}

fn pipe() -> Result<[i32; 2], String> {
    let mut fds = [0; 2];
    // SAFETY: room for two descriptors.
    match unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } {
        0 => Ok(fds),
        _ => Err(format!("pipe: {}", io::Error::last_os_error())),
    }
}
