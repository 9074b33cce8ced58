//! Instructions of classic BPF as the kernel and tcpdump number them (linux/bpf_common.h,
//! linux/filter.h). The machine has an accumulator A, an index register X, and sixteen words
//! of scratch memory M.

/// One instruction, laid out as `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// What to do: class, size or operation, and where the operand is.
    pub code: u16,
    /// Instructions to skip when a conditional jump's test holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// The constant operand.
    pub k: u32,
}

impl Instruction {
    /// An instruction that is no conditional jump.
    pub const fn new(code: u16, k: u32) -> Self {
        Self { code, jt: 0, jf: 0, k }
    }

    /// A conditional jump.
    pub const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Self {
        Self { code, jt, jf, k }
    }
}

/// Words of scratch memory (BPF_MEMWORDS).
pub const SCRATCH_WORDS: usize = 16;
/// Instructions of a program at most (BPF_MAXINSNS): the kernel takes no more.
pub const INSTRUCTIONS_MAX: usize = 4096;

/// The opcodes, as class, size and mode combined.
pub mod op {
    /// `ld [k]`: a word of the packet.
    pub const LD_W_ABS: u16 = 0x20;
    /// `ldh [k]`: a half word of the packet.
    pub const LD_H_ABS: u16 = 0x28;
    /// `ldb [k]`: a byte of the packet.
    pub const LD_B_ABS: u16 = 0x30;
    /// `ld [x + k]`.
    pub const LD_W_IND: u16 = 0x40;
    /// `ldh [x + k]`.
    pub const LD_H_IND: u16 = 0x48;
    /// `ldb [x + k]`.
    pub const LD_B_IND: u16 = 0x50;
    /// `ld #k`.
    pub const LD_IMM: u16 = 0x00;
    /// `ld M[k]`.
    pub const LD_MEM: u16 = 0x60;
    /// `ld #len`: the packet's length on the wire.
    pub const LD_LEN: u16 = 0x80;
    /// `ldx #k`.
    pub const LDX_IMM: u16 = 0x01;
    /// `ldx M[k]`.
    pub const LDX_MEM: u16 = 0x61;
    /// `ldx #len`.
    pub const LDX_LEN: u16 = 0x81;
    /// `ldxb 4*([k]&0xf)`: the length of an IPv4 header that begins at k.
    pub const LDX_MSH: u16 = 0xb1;
    /// `st M[k]`.
    pub const ST: u16 = 0x02;
    /// `stx M[k]`.
    pub const STX: u16 = 0x03;
    /// A = A + k; with [`X`] A + X, and so for the other operations.
    pub const ADD: u16 = 0x04;
    /// A = A - k.
    pub const SUB: u16 = 0x14;
    /// A = A * k.
    pub const MUL: u16 = 0x24;
    /// A = A / k; by an X of zero, the program ends and the packet does not match.
    pub const DIV: u16 = 0x34;
    /// A = A | k.
    pub const OR: u16 = 0x44;
    /// A = A & k.
    pub const AND: u16 = 0x54;
    /// A = A << k.
    pub const LSH: u16 = 0x64;
    /// A = A >> k.
    pub const RSH: u16 = 0x74;
    /// A = -A.
    pub const NEG: u16 = 0x84;
    /// A = A % k.
    pub const MOD: u16 = 0x94;
    /// A = A ^ k.
    pub const XOR: u16 = 0xa4;
    /// Skip k instructions.
    pub const JA: u16 = 0x05;
    /// Test A == k.
    pub const JEQ: u16 = 0x15;
    /// Test A > k.
    pub const JGT: u16 = 0x25;
    /// Test A >= k.
    pub const JGE: u16 = 0x35;
    /// Test A & k != 0.
    pub const JSET: u16 = 0x45;
    /// End; keep k bytes of the packet.
    pub const RET_K: u16 = 0x06;
    /// End; keep A bytes of the packet.
    pub const RET_A: u16 = 0x16;
    /// X = A.
    pub const TAX: u16 = 0x07;
    /// A = X.
    pub const TXA: u16 = 0x87;
    /// Added to an operation or test: the operand is X, not k.
    pub const X: u16 = 0x08;
}

/// Offsets at which a load reads what the kernel knows of the packet rather than its bytes
/// (SKF_AD_OFF and what is added to it).
pub mod ancillary {
    const BASE: u32 = 0xffff_f000;
    /// Ethernet protocol by the kernel (SKF_AD_PROTOCOL), past an outer VLAN tag.
    pub const PROTOCOL: u32 = BASE;
    /// To whom the packet goes (SKF_AD_PKTTYPE): [`PACKET_OUTGOING`] for this host's own.
    pub const PACKET_TYPE: u32 = BASE + 4;
    /// Number of the interface (SKF_AD_IFINDEX).
    pub const INTERFACE: u32 = BASE + 8;
    /// The outer VLAN tag that the kernel took out of the frame (SKF_AD_VLAN_TAG).
    pub const VLAN_TAG: u32 = BASE + 44;
    /// Whether it took one out (SKF_AD_VLAN_TAG_PRESENT): 1 or 0.
    pub const VLAN_TAG_PRESENT: u32 = BASE + 48;
    /// All of them begin here; packet bytes end long before.
    pub const FIRST: u32 = BASE;
    /// PACKET_OUTGOING (linux/if_packet.h).
    pub const PACKET_OUTGOING: u32 = 4;
}
