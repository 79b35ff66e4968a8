//! Passwords from whoever sits at the terminal, without showing them.

use std::io::{self, BufRead as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::Failure;

/// Asks for a password.
pub(super) fn password(prompt: &str) -> Result<String, Failure> {
    eprint!("{prompt}");
    // Nothing is lost where the prompt cannot be shown.
    let _ = io::stderr().flush();
    let silence = Silence::begin();
    let password = line();
    drop(silence);
    eprintln!();
    password
}

/// Asks for a new password, twice.
pub(super) fn new_password(user: &str) -> Result<String, Failure> {
    let first = password(&format!("Password of {user}: "))?;
    if first.is_empty() {
        return Err(Failure::Arguments("empty password".to_owned()));
    }
    let second = password(&format!("Type password of {user} again for confirmation: "))?;
    if first == second {
        Ok(first)
    } else {
        Err(Failure::Arguments("given passwords are different".to_owned()))
    }
}

/// The first word of the standard input, as scripts pass it.
pub(super) fn piped() -> Result<String, Failure> {
    let line = line()?;
    Ok(line.split_whitespace().next().unwrap_or_default().to_owned())
}

fn line() -> Result<String, Failure> {
    let mut line = String::new();
    io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| Failure::Arguments(format!("failed to ask password: {error}")))?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

/// The terminal does not show what is typed until this is dropped. Where there is none, there is nothing to hide.
struct Silence(Termios);

impl Silence {
    fn begin() -> Option<Silence> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).ok()?;
        Some(Silence(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // The terminal is the user's again either way.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
