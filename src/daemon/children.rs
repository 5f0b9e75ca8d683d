//! The parent's children: how they are started, known, and ended with the service.

use super::control_page::{Phase, Ticket};
use super::parent::{Parent, said};
use super::program::{PROGRAM, read_words};
use super::{Role, leftover};
use crate::error::{StartError, StartResult};
use crate::sys::process::{Ask, Ended, Identity, Process};
use crate::sys::statefs::StateDir;
use crate::sys::wake::wait_readable;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long processes may take to end once the service has.
const END_WAIT_MAX: Duration = Duration::from_secs(5);

/// A server or standby.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) ticket: Ticket,
    pub(super) process: Process,
}

impl Parent<'_> {
    pub(super) fn add(&mut self, member: Member) {
        if let Some(place) = self.members.iter_mut().find(|place| place.is_none()) {
            *place = Some(member);
        }
    }

    /// Watches the server if it is somebody else's child that this parent has not seen: the former
    /// parent died before that child had said who it is.
    pub(super) fn meet(&mut self, server: Ticket) {
        if server == 0 || self.members().any(|member| member.ticket == server) {
            return;
        }
        if let Ok(Some(process)) = Process::open(self.page.holder(server)) {
            self.add(Member { ticket: server, process });
        }
    }

    /// Starts a process from the program's copy. May wait for memory.
    pub(super) fn start(&mut self, role: Role) -> io::Result<()> {
        // `set` may have changed them.
        self.words = read_words(&self.dir).unwrap_or_else(|_| std::mem::take(&mut self.words));
        let ticket = self.page.take_ticket();
        let mut command = Command::new(self.dir.join(PROGRAM));
        command.arg0("uswap").arg("serve").args(["--ticket", &ticket.to_string()]);
        if role == Role::Heir {
            command.arg("--heir");
        }
        // The manager hears from the parent.
        command
            .env_remove("WATCHDOG_USEC")
            .args(&self.words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // A log's page may be in the device: who serves must not write there.
            .stderr(Stdio::null());
        // What a terminal sends is for the parent, which passes it on.
        let mut child = command.process_group(0).spawn()?;
        match Identity::of(child.id()).and_then(Process::open) {
            Ok(Some(process)) => {
                self.add(Member { ticket, process });
                Ok(())
            }
            found => {
                // Nobody may run whom nobody watches.
                let _ = child.kill();
                let ended = child.wait()?;
                found?;
                Err(io::Error::other(format!("it ended at once, {ended}")))
            }
        }
    }

    /// Ends what was begun and never served.
    pub(super) fn give_up(&mut self) {
        self.members().for_each(|member| drop(member.process.ask(Ask::End)));
        self.bury_all();
    }

    /// The service ended: so do its other processes, and what they leave.
    pub(super) fn finish(&mut self, ended: Ended) -> StartResult<u8> {
        self.members().for_each(|member| drop(member.process.ask(Ask::End)));
        self.bury_all();
        let orderly = self.page.phase() == Phase::Ended;
        self.speak_out();
        match ended {
            // It has said why, perhaps before its end was noticed.
            Ended::Code(code) if self.told || code == 0 || orderly => {
                Ok(u8::try_from(code).unwrap_or(1))
            }
            _ if orderly => Ok(0),
            _ => Err(StartError::failure(
                format!("the server ended before it served ({})", said(ended)),
                "see the kernel log (dmesg)",
            )),
        }
    }

    /// Waits for all processes to end, ends them if they do not, and removes what is left.
    fn bury_all(&mut self) {
        for member in self.members.iter_mut().filter_map(Option::take) {
            let ended =
                || matches!(wait_readable([member.process.as_fd()], END_WAIT_MAX), Ok([true]));
            if ended() || (member.process.ask(Ask::Die).is_ok() && ended()) {
                let _ = member.process.reap();
            }
        }
        // A server that ends in order has done this.
        if StateDir::is_mounted(&self.dir)
            && let Err(e) = leftover::remove(&self.settings.name, &self.dir)
        {
            self.say(e.to_string());
        }
        if self.page.phase() == Phase::Ended {
            let _ = fs::remove_file(&self.settings.socket);
        }
    }
}
