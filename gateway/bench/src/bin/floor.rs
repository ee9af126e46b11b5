//! The floor: the least a server may do that answers trackers only for what is on disk.
//!
//! It reads the login and checks length, count and checksum of every frame with the same codec,
//! puts all frames that wait behind each other into a file that was filled before, one write and
//! one `fdatasync` for all of them, then answers. No limits, no timeouts, no lists, nothing is kept
//! that could be read again, nothing is forwarded.
//!
//! Why it answers from one task for a whole group: waking a task per connection would cost it more
//! than the answer itself, and a floor must not be handicapped.
//!
//! It says its port on standard output and ends when its standard input does.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use codec::{Cut, Expect, Limits};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

/// Bytes asked of a socket at once, as the gateway does.
const READ_BYTES: usize = 8192;

/// Frames that wait for the next commit, and who gets which answer.
#[derive(Default)]
struct Group {
    bytes: Vec<u8>,
    answers: Vec<(Arc<TcpStream>, [u8; 4])>,
}

#[derive(Default)]
struct Waiting {
    group: Mutex<Group>,
    is_there: Condvar,
}

fn main() -> Result<()> {
    let mut words = std::env::args_os().skip(1);
    let path = PathBuf::from(words.next().context("which file")?);
    let bytes: u64 = words
        .next()
        .and_then(|word| word.to_str()?.parse().ok())
        .context("how many bytes")?;
    let file = filled(&path, bytes)?;
    // Nobody else needs its name, and so it is gone however we end.
    std::fs::remove_file(&path)?;
    std::thread::spawn(|| {
        // Its end is all that matters.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_io()
        .build()?;
    runtime.block_on(serve(file, bytes))
}

fn filled(path: &PathBuf, bytes: u64) -> Result<File> {
    let mut file = File::create_new(path).with_context(|| path.display().to_string())?;
    let zeros = vec![0; 1 << 20];
    for _ in 0..bytes >> 20 {
        file.write_all(&zeros)?;
    }
    file.sync_all()?;
    Ok(file)
}

async fn serve(file: File, bytes: u64) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?.port());
    let waiting = Arc::new(Waiting::default());
    let (of_writer, runtime) = (Arc::clone(&waiting), Handle::current());
    std::thread::spawn(move || commit_all(&of_writer, &file, bytes, &runtime));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let waiting = Arc::clone(&waiting);
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &waiting).await {
                eprintln!("floor: {error:#}");
            }
        });
    }
}

/// Commits whatever waits, for ever; ends the process when the disk fails.
fn commit_all(waiting: &Waiting, file: &File, bytes: u64, runtime: &Handle) {
    let mut at = 0;
    let mut frames = Vec::new();
    loop {
        let mut group = waiting.group.lock().unwrap_or_else(PoisonError::into_inner);
        while group.answers.is_empty() {
            let woken = waiting.is_there.wait(group);
            group = woken.unwrap_or_else(PoisonError::into_inner);
        }
        frames.clear();
        std::mem::swap(&mut frames, &mut group.bytes);
        let answers = std::mem::take(&mut group.answers);
        drop(group);
        if at + frames.len() as u64 > bytes {
            at = 0;
        }
        if let Err(error) = file
            .write_all_at(&frames, at)
            .and_then(|()| file.sync_data())
        {
            eprintln!("floor: {error}");
            std::process::exit(1);
        }
        at += frames.len() as u64;
        runtime.spawn(async move {
            for (stream, answer) in answers {
                // Four bytes always fit a socket that has nothing else to say.
                let _ = stream.try_write(&answer);
            }
        });
    }
}

async fn converse(stream: TcpStream, waiting: &Waiting) -> Result<()> {
    let stream = Arc::new(stream);
    let mut bytes = Vec::with_capacity(READ_BYTES);
    let mut expect = Expect::Login;
    loop {
        stream.readable().await?;
        match stream.try_read_buf(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            // Hanging up is how a round ends.
            Err(_) => return Ok(()),
        }
        let mut done = 0;
        loop {
            let rest = &bytes[done..];
            match codec::cut(rest, expect, Limits::default()) {
                Cut::NeedMore { .. } => break,
                Cut::Login(login) => {
                    login.imei()?;
                    stream.try_write(&[codec::login::ACCEPT])?;
                    expect = Expect::Frame;
                    done += login.consumed();
                }
                Cut::Frame(frame) => {
                    let answer = frame.ack().context("a frame of records")?;
                    let mut group = waiting.group.lock().unwrap_or_else(PoisonError::into_inner);
                    group.bytes.extend_from_slice(frame.data());
                    group.answers.push((Arc::clone(&stream), answer));
                    let is_first = group.answers.len() == 1;
                    drop(group);
                    if is_first {
                        waiting.is_there.notify_one();
                    }
                    done += frame.consumed();
                }
                other => anyhow::bail!("cannot take {other:?}"),
            }
        }
        ensure!(done <= bytes.len(), "more was cut than was there");
        bytes.drain(..done);
    }
}
