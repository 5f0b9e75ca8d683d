//! What a parent does besides starting processes: says how things stand, looks after a server that
//! hangs, and has another program take over.

use super::control_page::{Phase, Stage};
use super::parent::{LINES_MAX, Parent, Replacing};
use super::watchdog::{self, Watchdog};
use crate::sys::process::{Ask, clock_us};
use crate::ublk::ctrl::block_path;
use std::path::Path;

/// How long a service that serves waits to be called ready for its standby to be warm.
const FIRST_STANDBY_WAIT_US: u64 = 30_000_000;

/// A server that has served so long without a standby goes on for some time.
const CALM_US: u64 = 10_000_000;

impl Parent<'_> {
    /// Ends a server that has stopped serving, so that a standby takes over.
    pub(super) fn guard_server(&mut self) {
        if !self.is_served() {
            self.watchdog.iter_mut().for_each(Watchdog::begin_anew);
            return;
        }
        let Some(id) = self.page.device() else { return };
        if self.watchdog.is_none() {
            // Until it can be watched it is not.
            self.watchdog = Watchdog::new(Path::new("/"), id).ok();
        }
        let stuck = self.watchdog.as_mut().is_some_and(|dog| dog.is_stuck(&self.page));
        // Without a standby nobody would be better off.
        if stuck && self.settled() {
            // If it waits for memory it cannot even end.
            self.reserve = Vec::new();
            let server = self.page.server();
            let found = self.members().find(|member| member.ticket == server);
            found.iter().for_each(|member| drop(member.process.ask(Ask::Die)));
            self.say(format!(
                "requests wait and none has ended for {} s: the server was killed",
                watchdog::STUCK_MAX_US / 1_000_000
            ));
        }
    }

    /// Carries out the order to hand over to a standby from another program: the standby there is
    /// goes, the next one is made, and when it is warm the server is told to leave.
    pub(super) fn look_for_successor(&mut self) {
        let (wanted, done) = self.page.successors();
        if wanted == done {
            self.replacing = None;
            return;
        }
        let server = self.page.server();
        match self.replacing {
            None => {
                let former = self.heir().map(|heir| heir.ticket);
                self.heir().iter().for_each(|heir| drop(heir.process.ask(Ask::End)));
                self.replacing = Some(Replacing::Clearing(former));
            }
            Some(Replacing::Clearing(former)) => {
                let heir = self.heir().filter(|heir| Some(heir.ticket) != former);
                if heir.is_some_and(|heir| self.is_warm(heir)) && self.is_served() {
                    let found = self.members().find(|member| member.ticket == server);
                    found.iter().for_each(|member| drop(member.process.ask(Ask::HandOver)));
                    self.replacing = Some(Replacing::Told(server));
                }
            }
            // Whoever it is, it is from the program that is there now.
            Some(Replacing::Told(former)) if server != former && self.is_served() => {
                self.page.note_successor(wanted);
                self.replacing = None;
            }
            Some(Replacing::Told(_)) => {}
        }
    }

    /// Has something written as soon as that can be.
    pub(super) fn say(&mut self, line: String) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Has written what has to be said, as far as there is room for it. The log's page may be in
    /// the device: as long as nobody serves, what is there to be said stays here.
    pub(super) fn speak(&mut self) {
        let safe = match self.page.phase() {
            Phase::Serving => self.settled() || (self.is_served() && self.is_calm()),
            Phase::Starting | Phase::Ended => true,
        };
        while safe && self.scribe.has_room() {
            let Some(line) = self.next_line() else { return };
            self.scribe.write(line);
        }
    }

    /// Has everything written that has to be said. Waits for that, so only where the service ends.
    pub(super) fn speak_out(&mut self) {
        while let Some(line) = self.next_line() {
            self.scribe.write(line);
        }
    }

    /// What this process, then what servers and standbys have to say.
    fn next_line(&mut self) -> Option<String> {
        let own = self.lines.pop_front();
        own.or_else(|| self.page.whispers().fetch().inspect(|_| self.told = true))
    }

    /// Whether whoever serves has done so for some time, or there has been no trouble yet.
    fn is_calm(&self) -> bool {
        !self.announced || clock_us() > self.last_server.1 + CALM_US
    }

    /// Whether the device is served and a standby is warm.
    pub(super) fn settled(&self) -> bool {
        self.page.stage(self.page.server()) == Stage::Live
            && self.heir().is_some_and(|heir| self.is_warm(heir))
    }

    /// Calls the service ready, once.
    pub(super) fn announce(&mut self) {
        let (Some(since), false) = (self.serving_since_us, self.announced) else { return };
        let Some(id) = self.page.device() else { return };
        let warm = self.heir().is_some_and(|heir| self.is_warm(heir));
        let late = clock_us() > since + FIRST_STANDBY_WAIT_US || self.failures > 2;
        if (warm || late) && self.scribe.has_room() {
            if !warm {
                self.say("there is no standby yet: if the server dies, pages wait for one".into());
            }
            self.announced = true;
            self.scribe.announce(block_path(id).display().to_string());
        }
    }
}
