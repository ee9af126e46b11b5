//! Serial lines: which device at which speed, and the open one.
//!
//! Why no crate for serial ports: what a line of 8 data bits needs is a handful of calls that
//! `rustix` has, without C and without a second idea of what a file is.
//!
//! Invariants: an open port is raw (bytes pass as they are), belongs to us alone as far as others ask,
//! and never blocks; nothing that arrived before it was opened is read.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::str::FromStr;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::termios::{
    ControlModes, InputModes, OptionalActions, QueueSelector, Termios, ioctl_tiocexcl, tcflush,
    tcgetattr, tcsetattr,
};
use thiserror::Error;

/// What a line runs at when nothing is said.
pub const BAUD_DEFAULT: u32 = 115_200;

/// Slower than any tracker's, and faster than any cable's.
const BAUD: std::ops::RangeInclusive<u32> = 50..=4_000_000;

/// A receiver follows a sender whose clock differs by less.
const BAUD_DEVIATION_PERCENT_MAX: u32 = 3;

/// A bit that tells of one damaged bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// There is none.
    None,
    /// The ones are an even number.
    Even,
    /// The ones are an odd number.
    Odd,
}

/// A line: `/dev/ttyUSB0`, `/dev/ttyS1@9600`, `/dev/ttyS1@9600-8E1`. Always 8 data bits, because
/// frames are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialLine {
    /// The device, absolute.
    pub path: PathBuf,
    /// Bits a second, 50 to 4,000,000.
    pub baud: u32,
    /// Default: none.
    pub parity: Parity,
    /// 1 or 2; default 1.
    pub stop_bits: u8,
}

/// Write it as [`SerialLine`] says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a device such as /dev/ttyUSB0, with its speed (50 to 4000000) and kind if they are not 115200-8N1: /dev/ttyS1@9600 or /dev/ttyS1@9600-8E1"
)]
pub struct NoSerialLine;

impl FromStr for SerialLine {
    type Err = NoSerialLine;

    fn from_str(text: &str) -> Result<Self, NoSerialLine> {
        let (path, how) = text.rsplit_once('@').unwrap_or((text, ""));
        let (baud, kind) = how.split_once('-').unwrap_or((how, "8N1"));
        let baud = match baud {
            "" if path == text => BAUD_DEFAULT,
            baud => baud.parse().map_err(|_| NoSerialLine)?,
        };
        let (parity, stop_bits) = match kind {
            "8N1" => (Parity::None, 1),
            "8E1" => (Parity::Even, 1),
            "8O1" => (Parity::Odd, 1),
            "8N2" => (Parity::None, 2),
            _ => return Err(NoSerialLine),
        };
        if !path.starts_with('/') || !BAUD.contains(&baud) {
            return Err(NoSerialLine);
        }
        Ok(Self {
            path: path.into(),
            baud,
            parity,
            stop_bits,
        })
    }
}

/// Always with speed and kind.
impl fmt::Display for SerialLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parity = match self.parity {
            Parity::None => 'N',
            Parity::Even => 'E',
            Parity::Odd => 'O',
        };
        let (path, baud, stop_bits) = (self.path.display(), self.baud, self.stop_bits);
        write!(f, "{path}@{baud}-8{parity}{stop_bits}")
    }
}

/// A line cannot be had now.
#[derive(Debug, Error)]
pub enum SerialError {
    /// Plug it in, or correct the path; it may come at any time.
    #[error("there is no such device")]
    Missing,
    /// Let the user into the group of the device.
    #[error("this user may not use it")]
    Denied,
    /// Stop the other program.
    #[error("another program holds it")]
    Busy,
    /// Correct the path.
    #[error("it is no serial port")]
    NoPort,
    /// Set a speed that the device has.
    #[error("it does not run at this speed")]
    Speed,
    /// Something else.
    #[error("it cannot be opened")]
    System(#[source] io::Error),
}

impl From<Errno> for SerialError {
    fn from(errno: Errno) -> Self {
        match errno {
            // The device is listed and nothing is behind it: EIO, ENXIO.
            Errno::NOENT | Errno::NODEV | Errno::NXIO | Errno::IO => Self::Missing,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            Errno::BUSY | Errno::WOULDBLOCK => Self::Busy,
            Errno::NOTTY | Errno::ISDIR => Self::NoPort,
            other => Self::System(other.into()),
        }
    }
}

/// An open line.
#[derive(Debug)]
pub struct SerialPort(OwnedFd);

impl SerialPort {
    /// Opens it for us alone, sets it up, and throws away what has arrived before.
    ///
    /// # Errors
    /// [`SerialError`].
    pub fn open(line: &SerialLine) -> Result<Self, SerialError> {
        // Without NONBLOCK a line without a carrier would keep us here.
        let how = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open(&line.path, how, Mode::empty())?;
        let mut termios = tcgetattr(&fd)?;
        // Before anything is changed: other programs for serial lines ask in the same way.
        flock(&fd, FlockOperation::NonBlockingLockExclusive)?;
        // For those that do not ask.
        ioctl_tiocexcl(&fd)?;
        line.set(&mut termios)?;
        tcsetattr(&fd, OptionalActions::Now, &termios).map_err(|errno| match errno {
            Errno::INVAL | Errno::RANGE => SerialError::Speed,
            other => other.into(),
        })?;
        // A driver that cannot do it takes what is nearest.
        let got = tcgetattr(&fd)?.output_speed();
        if got.abs_diff(line.baud) > line.baud / 100 * BAUD_DEVIATION_PERCENT_MAX {
            return Err(SerialError::Speed);
        }
        tcflush(&fd, QueueSelector::IFlush)?;
        Ok(Self(fd))
    }

    /// Reads what is there; 0 when the line is gone.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; anything else: the line is gone.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.0, buffer)?)
    }

    /// Writes as much as there is room for.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room; anything else: the line is gone.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(&self.0, bytes)?)
    }
}

impl AsFd for SerialPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for SerialPort {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl SerialLine {
    fn set(&self, termios: &mut Termios) -> Result<(), SerialError> {
        termios.make_raw();
        // Of an open cable the line reads nothing, not zeros.
        termios.input_modes |= InputModes::IGNBRK;
        let modes = &mut termios.control_modes;
        *modes -= ControlModes::PARENB
            | ControlModes::PARODD
            | ControlModes::CSTOPB
            | ControlModes::CRTSCTS;
        // Three wires do: no carrier is waited for.
        *modes |= ControlModes::CLOCAL | ControlModes::CREAD;
        match self.parity {
            Parity::None => {}
            Parity::Even => *modes |= ControlModes::PARENB,
            Parity::Odd => *modes |= ControlModes::PARENB | ControlModes::PARODD,
        }
        if self.stop_bits == 2 {
            *modes |= ControlModes::CSTOPB;
        }
        termios.set_speed(self.baud).map_err(|_| SerialError::Speed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::{MemfdFlags, memfd_create};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{LocalModes, OutputModes};

    /// A wire: our end, and where the other one is plugged in.
    fn wire() -> (OwnedFd, SerialLine) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let line = name.to_str().unwrap().parse().unwrap();
        (master, line)
    }

    fn line(text: &str) -> Option<String> {
        text.parse::<SerialLine>().ok().map(|line| line.to_string())
    }

    #[test]
    fn a_line_says_its_device_speed_and_kind() {
        for (text, whole) in [
            ("/dev/ttyUSB0", "/dev/ttyUSB0@115200-8N1"),
            ("/dev/ttyS1@9600", "/dev/ttyS1@9600-8N1"),
            ("/dev/ttyS1@50-8E1", "/dev/ttyS1@50-8E1"),
            ("/dev/ttyS1@4000000-8O1", "/dev/ttyS1@4000000-8O1"),
            ("/dev/ttyS1@9600-8N2", "/dev/ttyS1@9600-8N2"),
            (
                "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1:1.0-port0@9600",
                "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1:1.0-port0@9600-8N1",
            ),
            ("/dev/odd@name@300", "/dev/odd@name@300-8N1"),
        ] {
            assert_eq!(line(text).as_deref(), Some(whole));
            assert_eq!(line(whole).as_deref(), Some(whole));
        }
        for bad in [
            "",
            "ttyUSB0",
            "/dev/ttyUSB0@",
            "/dev/ttyUSB0@fast",
            "/dev/ttyUSB0@49",
            "/dev/ttyUSB0@4000001",
            "/dev/ttyUSB0@9600-7E1",
            "/dev/ttyUSB0@9600-8n1",
            "/dev/ttyUSB0@9600-",
            "@9600",
        ] {
            assert_eq!(line(bad), None, "{bad}");
        }
    }

    /// The kernel carries bytes from one end to the other when it finds time.
    fn all_of(end: impl AsFd, length: usize, mut read: impl FnMut(&mut [u8]) -> usize) -> Vec<u8> {
        let within = Timespec::try_from(std::time::Duration::from_secs(30)).unwrap();
        let mut heard = Vec::new();
        while heard.len() < length {
            let mut ends = [PollFd::new(&end, PollFlags::IN)];
            assert_eq!(poll(&mut ends, Some(&within)).unwrap(), 1, "{heard:?}");
            let mut buffer = [0; 600];
            let count = read(&mut buffer);
            heard.extend_from_slice(&buffer[..count]);
        }
        heard
    }

    #[test]
    fn every_byte_passes_as_it_is_and_none_from_before() {
        let (master, line) = wire();
        rustix::io::write(&master, b"from before\n").unwrap();
        // A line that nobody set up says it again, which tells that it is there.
        let echo = all_of(&master, b"from before\r\n".len(), |buffer| {
            rustix::io::read(&master, buffer).unwrap()
        });
        assert_eq!(echo, b"from before\r\n");
        let port = SerialPort::open(&line).unwrap();
        let nothing = port.read(&mut [0; 600]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        let all: Vec<u8> = (0..=255).chain([13, 10, 3, 4, 17, 19, 127, 255]).collect();
        rustix::io::write(&master, &all).unwrap();
        let heard = all_of(&port, all.len(), |buffer| port.read(buffer).unwrap());
        assert_eq!(heard, all);
        assert_eq!(port.write(&all).unwrap(), all.len());
        let heard = all_of(&master, all.len(), |buffer| {
            rustix::io::read(&master, buffer).unwrap()
        });
        assert_eq!(heard, all, "and nothing was echoed before");
    }

    #[test]
    fn it_is_set_up_as_the_line_says() {
        let (_master, mut line) = wire();
        line.baud = 9_600;
        line.stop_bits = 2;
        let port = SerialPort::open(&line).unwrap();
        let termios = tcgetattr(&port).unwrap();
        assert_eq!(
            (termios.input_speed(), termios.output_speed()),
            (9_600, 9_600)
        );
        let modes = termios.control_modes;
        assert!(modes.contains(ControlModes::CSTOPB | ControlModes::CLOCAL | ControlModes::CREAD));
        assert!(!modes.intersects(ControlModes::PARENB | ControlModes::CRTSCTS));
        assert_eq!(modes & ControlModes::CSIZE, ControlModes::CS8);
        assert!(
            !termios
                .local_modes
                .intersects(LocalModes::ECHO | LocalModes::ICANON)
        );
        assert!(!termios.output_modes.contains(OutputModes::OPOST));
    }

    /// A pseudo-terminal has no parity, so this is what would be asked of a port that has.
    #[test]
    fn parity_and_odd_speeds_are_asked_for() {
        let (_master, mut line) = wire();
        let port = SerialPort::open(&line).unwrap();
        for (parity, wanted) in [
            (Parity::None, ControlModes::empty()),
            (Parity::Even, ControlModes::PARENB),
            (Parity::Odd, ControlModes::PARENB | ControlModes::PARODD),
        ] {
            line.parity = parity;
            line.baud = 250_000;
            let mut termios = tcgetattr(&port).unwrap();
            termios.control_modes |= ControlModes::CRTSCTS;
            line.set(&mut termios).unwrap();
            let both = ControlModes::PARENB | ControlModes::PARODD;
            assert_eq!(termios.control_modes & both, wanted, "{parity:?}");
            assert_eq!(termios.output_speed(), 250_000);
        }
    }

    #[test]
    fn whatever_is_in_the_way_has_a_name() {
        let (master, line) = wire();
        let first = SerialPort::open(&line).unwrap();
        assert!(matches!(SerialPort::open(&line), Err(SerialError::Busy)));
        drop(first);
        SerialPort::open(&line).unwrap();
        drop(master);
        assert!(matches!(SerialPort::open(&line), Err(SerialError::Missing)));
        let file = memfd_create("none", MemfdFlags::CLOEXEC).unwrap();
        let none = |path: String| SerialLine {
            path: path.into(),
            ..line.clone()
        };
        let file = none(format!("/proc/self/fd/{}", file.as_raw_fd()));
        assert!(matches!(SerialPort::open(&file), Err(SerialError::NoPort)));
        let dir = none("/dev".to_owned());
        assert!(matches!(SerialPort::open(&dir), Err(SerialError::NoPort)));
        assert!(!Path::new("/dev/milepost-none").exists());
        let gone = none("/dev/milepost-none".to_owned());
        assert!(matches!(SerialPort::open(&gone), Err(SerialError::Missing)));
    }

    #[test]
    fn a_line_that_is_pulled_out_says_so() {
        let (master, line) = wire();
        let port = SerialPort::open(&line).unwrap();
        drop(master);
        let mut buffer = [0; 8];
        match port.read(&mut buffer) {
            Ok(length) => assert_eq!(length, 0),
            Err(error) => assert_ne!(error.kind(), io::ErrorKind::WouldBlock),
        }
        assert!(port.write(b"x").is_err());
    }
}
