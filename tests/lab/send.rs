//! Packets with a given traffic class. Everything here acts in the calling thread's namespace.

use std::io::Result;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind,
    connect, listen, sendto, setsockopt, socket, sockopt,
};

use super::packet::internet_checksum;
use super::wait;

const LIMIT: Duration = Duration::from_secs(2);

/// Sets the whole byte: DSCP and ECN. TCP keeps its own ECN bits.
pub fn set_tos(socket: &impl AsFd, family: IpAddr, tos: u8) {
    let tos = i32::from(tos);
    match family {
        IpAddr::V4(_) => setsockopt(socket, sockopt::Ipv4Tos, &tos),
        IpAddr::V6(_) => setsockopt(socket, sockopt::Ipv6TClass, &tos),
    }
    .unwrap();
}

/// A UDP socket whose packets carry `tos`.
pub fn udp_socket(from: SocketAddr, tos: u8) -> UdpSocket {
    // A process that another test starts holds copies of all sockets until it becomes its program,
    // and with them the ports of those that are closed here meanwhile.
    let what = format!("{from} to be free");
    let socket = wait::expect(&what, LIMIT, || UdpSocket::bind(from).ok());
    set_tos(&socket, from.ip(), tos);
    socket
}

/// One datagram; above the MTU it leaves in fragments.
pub fn udp(from: SocketAddr, to: SocketAddr, tos: u8, payload: &[u8]) {
    udp_socket(from, tos).send_to(payload, to).unwrap();
}

fn tcp_socket(from: SocketAddr, tos: u8) -> OwnedFd {
    let family = match from {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    set_tos(&socket, from.ip(), tos);
    bind(socket.as_raw_fd(), &SockaddrStorage::from(from))
        .unwrap_or_else(|e| panic!("{from}: {e}"));
    socket
}

/// A TCP connection from a given port whose packets, from the SYN on, carry `tos`.
pub fn tcp_connect(from: SocketAddr, to: SocketAddr, tos: u8) -> Result<TcpStream> {
    let socket = tcp_socket(from, tos);
    // A reset instead of TIME_WAIT: the next test may use the port at once.
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&socket, sockopt::Linger, &linger)?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(TcpStream::from(socket))
}

/// A listener whose answers, from the SYN-ACK on, carry `tos`.
pub fn tcp_listen(at: SocketAddr, tos: u8) -> TcpListener {
    // As in `udp_socket`.
    let what = format!("{at} to be free");
    let socket = wait::expect(&what, LIMIT, || {
        let socket = tcp_socket(at, tos);
        listen(&socket, Backlog::new(8).unwrap())
            .ok()
            .map(|()| socket)
    });
    TcpListener::from(socket)
}

/// One ICMP echo request with `payload`; whoever owns `to` answers it with the same class.
pub fn ping(from: IpAddr, to: IpAddr, tos: u8, payload: &[u8]) {
    let (family, protocol, kind) = match from {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128),
    };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    set_tos(&socket, from, tos);
    bind(
        socket.as_raw_fd(),
        &SockaddrStorage::from(SocketAddr::new(from, 0)),
    )
    .unwrap();
    let mut message = vec![kind, 0, 0, 0, 0x51, 0x0d, 0, 1];
    message.extend_from_slice(payload);
    // For ICMPv6 the kernel overwrites it: its sum covers the addresses too.
    let sum = internet_checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    let to = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(socket.as_raw_fd(), &message, &to, MsgFlags::empty()).unwrap();
}

/// One IPv4 packet of any protocol, whatever its payload says.
pub fn raw_v4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )
    .unwrap();
    // The kernel writes length, id and checksum.
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(payload);
    let to = SockaddrStorage::from(SocketAddr::new(to.into(), 0));
    sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty()).unwrap();
}
