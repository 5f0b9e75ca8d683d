//! The ublk user interface: numbers and layouts of include/uapi/linux/ublk_cmd.h (Linux 6.12 and
//! 7.3 agree on all of these). Values cross the boundary as byte arrays packed here, so no layout
//! depends on the compiler.

/// `UBLK_U_CMD_GET_QUEUE_AFFINITY`.
pub const GET_QUEUE_AFFINITY: u32 = 0x8020_7501;
/// `UBLK_U_CMD_GET_DEV_INFO`.
pub const GET_DEV_INFO: u32 = 0x8020_7502;
/// `UBLK_U_CMD_ADD_DEV`.
pub const ADD_DEV: u32 = 0xc020_7504;
/// `UBLK_U_CMD_DEL_DEV_ASYNC` (6.7): does not wait for those who still have the device open.
pub const DEL_DEV_ASYNC: u32 = 0x8020_7514;
/// `UBLK_U_CMD_START_DEV`: blocks until every tag is fetched.
pub const START_DEV: u32 = 0xc020_7506;
/// `UBLK_U_CMD_STOP_DEV`.
pub const STOP_DEV: u32 = 0xc020_7507;
/// `UBLK_U_CMD_SET_PARAMS`.
pub const SET_PARAMS: u32 = 0xc020_7508;
/// `UBLK_U_CMD_START_USER_RECOVERY`: EBUSY until the dead server's descriptor is closed.
pub const START_USER_RECOVERY: u32 = 0xc020_7510;
/// `UBLK_U_CMD_END_USER_RECOVERY`: blocks until every tag is fetched.
pub const END_USER_RECOVERY: u32 = 0xc020_7511;
/// `UBLK_U_CMD_QUIESCE_DEV` (6.16): gives idle commands back and holds new requests back.
pub const QUIESCE_DEV: u32 = 0xc020_7516;
/// `UBLK_U_CMD_GET_FEATURES`.
pub const GET_FEATURES: u32 = 0x8020_7513;
/// `UBLK_U_CMD_TRY_STOP_DEV` (7.0): refuses while anybody has the disk open.
pub const TRY_STOP_DEV: u32 = 0xc020_7517;
/// `UBLK_U_IO_FETCH_REQ`.
pub const IO_FETCH: u32 = 0xc010_7520;
/// `UBLK_U_IO_COMMIT_AND_FETCH_REQ`.
pub const IO_COMMIT_AND_FETCH: u32 = 0xc010_7521;

/// `UBLK_F_SUPPORT_ZERO_COPY` (works from 6.15): request pages can be registered with a ring.
pub const F_SUPPORT_ZERO_COPY: u64 = 1;
/// `UBLK_F_USER_COPY` (6.5): the server moves the data, by reads and writes of the char device.
pub const F_USER_COPY: u64 = 1 << 7;
/// `UBLK_F_AUTO_BUF_REG` (6.16): request pages are registered with the ring before the request is
/// handed out, and taken back when it is committed.
pub const F_AUTO_BUF_REG: u64 = 1 << 11;
/// `UBLK_F_USER_RECOVERY`: the device outlives its server.
pub const F_USER_RECOVERY: u64 = 1 << 3;
/// `UBLK_F_USER_RECOVERY_REISSUE`: requests the dead server held are given to the next one.
pub const F_USER_RECOVERY_REISSUE: u64 = 1 << 4;
/// `UBLK_F_CMD_IOCTL_ENCODE`: the command numbers above are understood.
pub const F_CMD_IOCTL_ENCODE: u64 = 1 << 6;
/// `UBLK_F_QUIESCE` (6.16). Also the mark of a driver that aborts a dead server's requests without
/// a timer.
pub const F_QUIESCE: u64 = 1 << 12;
/// `UBLK_F_SAFE_STOP_DEV` (7.0): TRY_STOP_DEV exists.
pub const F_SAFE_STOP_DEV: u64 = 1 << 17;

/// How the data of requests gets from the driver to the server's file and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMode {
    /// The driver copies into and out of the tag's buffer.
    Copy,
    /// The server copies, through the char device.
    User,
    /// Nobody copies: the request's pages are registered with the ring under the tag's number, and
    /// file operations use them where they are. The tag's buffer holds nothing.
    Zero,
}

impl CopyMode {
    /// The word people type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::User => "user",
            Self::Zero => "zero",
        }
    }

    /// `UBLK_F_*` bits that the device needs for it.
    pub const fn flags(self) -> u64 {
        match self {
            Self::Copy => 0,
            Self::User => F_USER_COPY,
            Self::Zero => F_SUPPORT_ZERO_COPY | F_AUTO_BUF_REG,
        }
    }
}

/// Position on the char device of a request's data with user copy: `UBLKSRV_IO_BUF_OFFSET`, 25 bits
/// of offset, 16 of tag, then the queue.
pub const fn user_copy_position(queue: u16, tag: u16) -> u64 {
    0x8000_0000 + ((queue as u64) << 41) + ((tag as u64) << 25)
}

/// Names of the feature bits, lowest bit first.
pub const FEATURE_NAMES: [&str; 21] = [
    "SUPPORT_ZERO_COPY",
    "URING_CMD_COMP_IN_TASK",
    "NEED_GET_DATA",
    "USER_RECOVERY",
    "USER_RECOVERY_REISSUE",
    "UNPRIVILEGED_DEV",
    "CMD_IOCTL_ENCODE",
    "USER_COPY",
    "ZONED",
    "USER_RECOVERY_FAIL_IO",
    "UPDATE_SIZE",
    "AUTO_BUF_REG",
    "QUIESCE",
    "PER_IO_DAEMON",
    "BUF_REG_OFF_DAEMON",
    "BATCH_IO",
    "INTEGRITY",
    "SAFE_STOP_DEV",
    "NO_AUTO_PART_SCAN",
    "SHMEM_ZC",
    "IO_DESC_SIZE",
];

/// `UBLK_IO_OP_READ` and so on: the low byte of [`IoDesc::op_flags`].
pub mod op {
    /// Read pages.
    pub const READ: u8 = 0;
    /// Write pages.
    pub const WRITE: u8 = 1;
    /// Flush a volatile cache (never sent to us: we advertise none).
    pub const FLUSH: u8 = 2;
    /// Forget pages.
    pub const DISCARD: u8 = 3;
    /// Make pages zero.
    pub const WRITE_ZEROES: u8 = 5;
}

/// Offset of a queue's descriptors in the char device's mapping: 4096 tags of 24 bytes, whole
/// pages.
pub const QUEUE_DESC_STRIDE: u64 = 98_304;

/// `struct ublksrv_io_desc`: one request, written by the driver.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoDesc {
    /// Operation in bits 0-7, flags above.
    pub op_flags: u32,
    /// Length in sectors.
    pub nr_sectors: u32,
    /// First sector.
    pub start_sector: u64,
    /// Buffer address that the driver copied to or will copy from.
    pub addr: u64,
}

const _: () = assert!(size_of::<IoDesc>() == 24 && align_of::<IoDesc>() == 8);
const _: () = assert!(QUEUE_DESC_STRIDE == 4096 * size_of::<IoDesc>() as u64);

/// `struct ublksrv_ctrl_cmd`: the payload of a control command, without its buffer.
#[derive(Clone, Copy, Debug)]
pub struct CtrlCmd {
    /// Device number; `u32::MAX` asks ADD_DEV for any.
    pub dev_id: u32,
    /// Queue, `u16::MAX` where none is meant.
    pub queue_id: u16,
    /// The one inline argument.
    pub data: u64,
}

impl CtrlCmd {
    /// Packs the command with its buffer's address and length into the 80 payload bytes of a large
    /// SQE.
    pub fn pack(&self, addr: u64, len: u16) -> [u8; 80] {
        let mut bytes = [0; 80];
        bytes[0..4].copy_from_slice(&self.dev_id.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.queue_id.to_ne_bytes());
        bytes[6..8].copy_from_slice(&len.to_ne_bytes());
        bytes[8..16].copy_from_slice(&addr.to_ne_bytes());
        bytes[16..24].copy_from_slice(&self.data.to_ne_bytes());
        bytes
    }
}

/// `struct ublksrv_io_cmd`: the payload of a fetch or commit.
pub fn pack_io_cmd(queue: u16, tag: u16, result: i32, addr: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0..2].copy_from_slice(&queue.to_ne_bytes());
    bytes[2..4].copy_from_slice(&tag.to_ne_bytes());
    bytes[4..8].copy_from_slice(&result.to_ne_bytes());
    bytes[8..16].copy_from_slice(&addr.to_ne_bytes());
    bytes
}

/// The parts of `struct ublksrv_ctrl_dev_info` that we use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DevInfo {
    /// Hardware queues.
    pub queues: u16,
    /// Tags per queue.
    pub depth: u16,
    /// `UBLK_S_DEV_*`: 0 dead, 1 live, 2 quiesced, 3 fail-io.
    pub state: u16,
    /// Largest request in bytes.
    pub max_io_buf_bytes: u32,
    /// Device number.
    pub dev_id: u32,
    /// The server's process id; -1 when there is none.
    pub server_pid: i32,
    /// `UBLK_F_*`: asked for in ADD_DEV, granted on return.
    pub flags: u64,
    /// `ublksrv_flags`: the server's own, kept by the driver. Ours is a number that tells this
    /// device from others which had its number before.
    pub cookie: u64,
}

impl DevInfo {
    /// Size of the structure.
    pub const BYTES: usize = 64;
    /// State of a device without a disk (UBLK_S_DEV_DEAD).
    pub const DEAD: u16 = 0;

    /// The structure as the driver reads it.
    pub fn pack(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..2].copy_from_slice(&self.queues.to_ne_bytes());
        bytes[2..4].copy_from_slice(&self.depth.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.max_io_buf_bytes.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.dev_id.to_ne_bytes());
        bytes[24..32].copy_from_slice(&self.flags.to_ne_bytes());
        bytes[32..40].copy_from_slice(&self.cookie.to_ne_bytes());
        bytes
    }

    /// The structure as the driver wrote it.
    pub fn unpack(bytes: &[u8; Self::BYTES]) -> Self {
        Self {
            queues: u16::from_ne_bytes(field(bytes, 0)),
            depth: u16::from_ne_bytes(field(bytes, 2)),
            state: u16::from_ne_bytes(field(bytes, 4)),
            max_io_buf_bytes: u32::from_ne_bytes(field(bytes, 8)),
            dev_id: u32::from_ne_bytes(field(bytes, 12)),
            server_pid: i32::from_ne_bytes(field(bytes, 16)),
            flags: u64::from_ne_bytes(field(bytes, 24)),
            cookie: u64::from_ne_bytes(field(bytes, 32)),
        }
    }
}

/// The `N` bytes at `offset`.
fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("N bytes were taken")
}

/// The parts of `struct ublk_params` that we set: basic and discard.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    /// Size of the device in sectors.
    pub dev_sectors: u64,
    /// Largest read or write in sectors.
    pub max_sectors: u32,
    /// Largest discard in sectors; 0 where there is none.
    pub max_discard_sectors: u32,
    /// Largest write-zeroes in sectors; 0 where there is none.
    pub max_write_zeroes_sectors: u32,
    /// Whether what is written is safe only after a flush.
    pub volatile_cache: bool,
    /// log2 of the logical and physical block size.
    pub block_shift: u8,
}

impl Params {
    /// Size of the structure on 6.12; newer drivers accept the shorter form.
    pub const BYTES: usize = 112;
    const TYPE_BASIC: u32 = 1;
    const TYPE_DISCARD: u32 = 2;
    const ATTR_VOLATILE_CACHE: u32 = 1 << 2;

    /// The structure as the driver reads it. Other attributes stay 0: not read-only, not rotational
    /// (swap would take one global lock), no FUA.
    pub fn pack(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0..4].copy_from_slice(&(Self::BYTES as u32).to_ne_bytes());
        bytes[4..8].copy_from_slice(&(Self::TYPE_BASIC | Self::TYPE_DISCARD).to_ne_bytes());
        let attributes = if self.volatile_cache { Self::ATTR_VOLATILE_CACHE } else { 0 };
        bytes[8..12].copy_from_slice(&attributes.to_ne_bytes());
        // logical, physical, io_opt, io_min shifts: one page each
        bytes[12..16].copy_from_slice(&[self.block_shift; 4]);
        bytes[16..20].copy_from_slice(&self.max_sectors.to_ne_bytes());
        bytes[24..32].copy_from_slice(&self.dev_sectors.to_ne_bytes());
        let block_bytes = 1u32 << self.block_shift;
        bytes[40..44].copy_from_slice(&block_bytes.to_ne_bytes());
        bytes[44..48].copy_from_slice(&block_bytes.to_ne_bytes());
        bytes[48..52].copy_from_slice(&self.max_discard_sectors.to_ne_bytes());
        bytes[52..56].copy_from_slice(&self.max_write_zeroes_sectors.to_ne_bytes());
        // the driver accepts exactly one segment per discard
        bytes[56..58].copy_from_slice(&1u16.to_ne_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dev_info_survives_packing() {
        let info = DevInfo {
            queues: 4,
            depth: 64,
            state: 0,
            max_io_buf_bytes: 131_072,
            dev_id: 7,
            server_pid: 0,
            flags: F_USER_RECOVERY | F_QUIESCE,
            cookie: 0x1234_5678_9abc_def0,
        };
        assert_eq!(DevInfo::unpack(&info.pack()), info);
    }

    #[test]
    fn params_sit_at_the_offsets_of_the_kernel_header() {
        let p = Params {
            dev_sectors: 0x1122,
            max_sectors: 256,
            max_discard_sectors: 8,
            max_write_zeroes_sectors: 16,
            volatile_cache: true,
            block_shift: 12,
        };
        let bytes = p.pack();
        assert_eq!(bytes[0], 112);
        assert_eq!(bytes[4], 3);
        assert_eq!(bytes[8..12], 4u32.to_ne_bytes());
        assert_eq!(bytes[12..16], [12; 4]);
        assert_eq!(bytes[16..20], 256u32.to_ne_bytes());
        assert_eq!(bytes[24..32], 0x1122u64.to_ne_bytes());
        assert_eq!(bytes[44..48], 4096u32.to_ne_bytes());
        assert_eq!((bytes[48], bytes[52], bytes[56]), (8, 16, 1));
    }

    #[test]
    fn user_copy_positions_do_not_meet() {
        assert_eq!(user_copy_position(0, 0), 0x8000_0000);
        assert_eq!(user_copy_position(0, 3), 0x8000_0000 + (3 << 25));
        assert_eq!(user_copy_position(2, 0) - user_copy_position(1, 0), 1 << 41);
        assert!(user_copy_position(0, u16::MAX) + (1 << 25) <= user_copy_position(1, 0));
    }

    #[test]
    fn every_named_feature_has_its_bit() {
        assert_eq!(FEATURE_NAMES[3], "USER_RECOVERY");
        assert_eq!(FEATURE_NAMES[F_QUIESCE.trailing_zeros() as usize], "QUIESCE");
        assert_eq!(FEATURE_NAMES[F_USER_COPY.trailing_zeros() as usize], "USER_COPY");
        assert_eq!(FEATURE_NAMES[F_AUTO_BUF_REG.trailing_zeros() as usize], "AUTO_BUF_REG");
        assert_eq!(FEATURE_NAMES[F_SAFE_STOP_DEV.trailing_zeros() as usize], "SAFE_STOP_DEV");
    }
}
