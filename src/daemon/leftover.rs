//! What a server that died leaves behind, and how to take it away.

use super::protocol::{Request, ask};
use super::{cannot, state, usage};
use crate::error::{StartError, StartResult};
use crate::sys::statefs::StateDir;
use crate::ublk::{Controller, ctrl};
use std::fs;
use std::path::Path;

/// Removes device, state and socket of a dead service. Refuses while a server answers, and while
/// anybody uses the device: its pages exist only in the state that would go.
pub fn remove_leftover(name: &str, run_dir: &Path, socket: &Path) -> StartResult<()> {
    if ask(socket, &Request::Status).is_ok() {
        let what = format!("service {name} is alive");
        return Err(StartError::failure(what, format!("stop it with `uswap down {name}`")));
    }
    let dir = state::dir_of(run_dir, name);
    if !dir.exists() && !socket.exists() {
        let what = format!("there is no service {name}");
        return Err(StartError::failure(what, "see `uswap list`"));
    }
    if let Some(id) = state::noted_device(&dir) {
        remove_device(name, id)?;
    }
    StateDir::remove(&dir).map_err(|e| cannot(&format!("remove {}", dir.display()), &e))?;
    match fs::remove_file(socket) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(cannot(&format!("remove {}", socket.display()), &e))
        }
        _ => Ok(()),
    }
}

fn remove_device(name: &str, id: u32) -> StartResult<()> {
    let mut controller = Controller::open()?;
    let info = controller.info(id).map_err(|e| cannot("ask for the device", &e))?;
    if info.is_none() {
        return Ok(());
    }
    let device = ctrl::block_path(id);
    if usage::swap_area(Path::new("/"), &device).map_or(true, |a| a.is_some()) {
        let what = format!(
            "{} is in use as swap and its server is dead: what is in it cannot be read",
            device.display()
        );
        return Err(StartError::failure(what, "save what you can and reboot"));
    }
    usage::refuse_if_used(Path::new("/"), name, id)?;
    controller.stop_unused(id).map_err(|e| cannot(&format!("stop device {id}"), &e))?;
    controller.delete(id).map_err(|e| cannot(&format!("delete device {id}"), &e))
}
