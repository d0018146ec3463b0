//! A small key-value service, run inside the demo's container: TCP, one thread for each connection, a log on disk.
//!
//! Requests are lines: `set KEY VALUE`, `fill COUNT`, `get KEY`, `count`, `asked`.

use anyhow::{Context, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where it listens within its container.
pub(crate) const ADDRESS: &str = "127.0.0.1:7000";
/// Every change, one line each.
pub(crate) const LOG: &str = "/var/changes";

struct Store {
    values: HashMap<String, String>,
    log: File,
}

/// Serves until killed.
pub(crate) fn serve() -> Result<()> {
    let log = File::options().create(true).append(true).open(LOG).context(LOG)?;
    let store = Arc::new(Mutex::new(Store { values: HashMap::new(), log }));
    let listener = TcpListener::bind(ADDRESS).context(ADDRESS)?;
    println!("listening");
    for connection in listener.incoming() {
        let (store, connection) = (store.clone(), connection?);
        std::thread::spawn(move || converse(&store, &connection));
    }
    Ok(())
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One client, until it leaves.
fn converse(store: &Mutex<Store>, mut connection: &TcpStream) -> Result<()> {
    // Lives in this thread's stack alone: a client that is connected anew would start at 1 again.
    let mut asked = 0_u64;
    for line in BufReader::new(connection).lines() {
        asked += 1;
        let line = line?;
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let answer = match words[..] {
            ["set", key, value] => set(&mut lock(store), key, value)?,
            ["fill", count] => {
                let mut store = lock(store);
                for number in 0..count.parse::<u64>()? {
                    set(&mut store, &format!("key:{number}"), &format!("value {number} {}", "v".repeat(100)))?;
                }
                "filled".to_owned()
            }
            ["get", key] => lock(store).values.get(key).cloned().unwrap_or_else(|| "none".to_owned()),
            ["count"] => lock(store).values.len().to_string(),
            ["asked"] => format!("asked {asked}"),
            _ => "what?".to_owned(),
        };
        writeln!(connection, "{answer}")?;
    }
    Ok(())
}

fn set(store: &mut Store, key: &str, value: &str) -> Result<String> {
    writeln!(store.log, "{key}={value}")?;
    store.values.insert(key.to_owned(), value.to_owned());
    Ok("stored".to_owned())
}
