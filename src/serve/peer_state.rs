//! What the kernel knows about the client's end of a connection.

use crate::http::PeerState;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::AsFd;

/// Asks the kernel, without blocking. If it cannot tell, the connection counts as open.
pub(super) fn peer_state(stream: &impl AsFd) -> PeerState {
    let mut fds = [PollFd::new(stream, HALF_CLOSE)];
    if poll(&mut fds, Some(&Timespec::default())).is_err() {
        return PeerState::Open;
    }
    from_events(stream, fds[0].revents())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const HALF_CLOSE: PollFlags = PollFlags::RDHUP;

#[cfg(any(target_os = "linux", target_os = "android"))]
fn from_events(_: &impl AsFd, events: PollFlags) -> PeerState {
    if events.intersects(PollFlags::HUP | PollFlags::ERR) {
        PeerState::Closed
    } else if events.contains(PollFlags::RDHUP) {
        PeerState::HalfClosed
    } else {
        PeerState::Open
    }
}

/// Other systems have no event for a half-close.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const HALF_CLOSE: PollFlags = PollFlags::IN;

/// Here a hang-up can mean a half-close, so a client that has gone without a reset is only
/// noticed after the grace period of a half-close; and a half-close behind bytes that have
/// not been read is not noticed at all until they are.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn from_events(stream: &impl AsFd, events: PollFlags) -> PeerState {
    use rustix::io::Errno;
    use rustix::net::{RecvFlags, recv};
    if events.contains(PollFlags::ERR) {
        return PeerState::Closed;
    }
    if events.contains(PollFlags::HUP) {
        return PeerState::HalfClosed;
    }
    if !events.contains(PollFlags::IN) {
        return PeerState::Open;
    }
    match recv(stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => PeerState::HalfClosed,
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => PeerState::Open,
        Err(_) => PeerState::Closed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound"));
        let (server, _) = listener.accept().expect("accepted");
        (client.expect("connected"), server)
    }

    fn wait_for(server: &TcpStream, state: PeerState) {
        while peer_state(server) != state {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_half_close_is_noticed() {
        let (client, server) = pair();
        assert_eq!(peer_state(&server), PeerState::Open);
        client.shutdown(Shutdown::Write).expect("half closed");
        wait_for(&server, PeerState::HalfClosed);
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn a_half_close_is_noticed_behind_unread_bytes() {
        let (mut client, server) = pair();
        client.write_all(b"GET /next").expect("sent");
        assert_eq!(peer_state(&server), PeerState::Open);
        client.shutdown(Shutdown::Write).expect("half closed");
        wait_for(&server, PeerState::HalfClosed);
    }

    #[test]
    fn a_reset_is_noticed() {
        let (client, mut server) = pair();
        // Closing a socket with unread bytes resets the connection.
        server.write_all(b"a response").expect("sent");
        client.peek(&mut [0]).expect("it has arrived");
        drop(client);
        wait_for(&server, PeerState::Closed);
        assert!(server.read(&mut [0]).is_err());
    }
}
