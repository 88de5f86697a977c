//! The agent on a home's access point: it marks and prioritises one device's flow, as the operator's
//! backend asks.
//!
//! ```text
//! backend ──▶ instructions ──▶ plan ──▶ one nftables transaction (+ queues) ──▶ read back ──▶ status ──▶ backend
//! ```
//!
//! Five rules explain the rest.
//!
//! 1. **The whole desired state comes in, one idempotent apply goes out.** The backend sends the complete
//!    list of sessions. The agent compares it with what the *kernel* holds (each map element carries its
//!    session's id) and commits the difference. There is no second copy of the truth: an agent that is
//!    started again finds what its predecessor left, and leaves it alone where it is right.
//! 2. **The kernel keeps time.** A session is map elements with a timeout. If the agent dies, hangs or loses
//!    the backend, the marks still end on time.
//! 3. **A status is what was verified**, by a dump of the kernel's maps, with their own counters.
//! 4. **Never in the way.** One nftables table of its own; of `skb->mark` seven bits; a root qdisc of somebody
//!    else's stays. No shell, no child process.
//! 5. **One bad session never costs the others.** Each is read, planned and, if the kernel refuses a
//!    transaction, left out for itself.
//!
//! # From `main` to the packet
//!
//! | module | what it is |
//! |---|---|
//! | [`config`] | the file: parsed into what can only be legal |
//! | [`run`] | puts the parts together; signals |
//! | [`confine`] | least privilege: capabilities, Landlock, seccomp |
//! | [`uplink`], [`backend`], [`backoff`] | the tasks that poll and report; one HTTP call; how long to wait after an error |
//! | [`agent`] | the loop |
//! | [`session`], [`flow`], [`dscp`], [`mac`] | what the wire says, checked, as matches |
//! | [`home`] | the devices of the home: who is where, and who was asked |
//! | [`plan`] | which sessions are admitted, and what must change: pure |
//! | [`reconcile`] | makes the kernel hold it, round by round, and verifies |
//! | [`ruleset`] | the ruleset as data, and the trait behind which the kernel stands |
//! | [`nft`] | that trait over nf_tables: the table's layout, messages, read-back |
//! | [`queue`] | HTB on the WAN device over rtnetlink |
//! | [`netlink`] | the connection to rtnetlink, and its messages |
//! | [`link`] | ports, the WAN device and neighbours, and when they change |
//! | [`status`] | the document, the local server, `qod-agent status` |
//! | [`enrol`], [`token_file`] | `qod-agent enrol`: how the agent comes by its token; the file that it is kept in |
//! | [`lock`] | one agent per router |
//! | [`check`] | `qod-agent check`: what this router can do, and what is in the way |
//! | [`reset`] | `qod-agent reset`: everything of the agent's goes |
//! | [`clock`] | the boot-time clock, and when somebody sets the other one |
//! | [`excerpt`] | words of somebody else's, cut to a line |

pub mod agent;
#[cfg(test)]
mod arbitrary;
pub mod backend;
pub mod backoff;
pub mod check;
pub mod clock;
pub mod config;
pub mod confine;
pub mod dscp;
pub mod enrol;
pub mod excerpt;
pub mod flow;
pub mod home;
pub mod link;
pub mod lock;
pub mod mac;
pub mod netlink;
pub mod nft;
pub mod plan;
pub mod queue;
pub mod reconcile;
pub mod reset;
pub mod ruleset;
pub mod run;
pub mod session;
pub mod status;
pub mod token_file;
pub mod uplink;
