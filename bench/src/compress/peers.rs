//! What others do with one value at a time on one thread.

use std::ffi::c_void;

use blosc2_src::{
    BLOSC_LZ4, BLOSC_SHUFFLE, BLOSC_ZSTD, BLOSC2_CPARAMS_DEFAULTS, BLOSC2_DPARAMS_DEFAULTS,
    blosc2_compress_ctx, blosc2_context, blosc2_cparams, blosc2_create_cctx, blosc2_create_dctx,
    blosc2_decompress_ctx, blosc2_dparams, blosc2_free_ctx,
};
use overspill::Width;

/// Compresses into a buffer of its own, which is used again, and gives the compressed length.
pub trait Peer {
    fn compress(&mut self, value: &[u8], output: &mut Vec<u8>);
    fn decompress(&mut self, compressed: &[u8], output: &mut [u8]);
}

/// Room that is enough for whatever a peer makes of a value.
fn room(output: &mut Vec<u8>, value: &[u8]) {
    output.resize(value.len() + value.len() / 8 + 1024, 0);
}

/// The C library of zstd, contexts used again.
pub struct RawZstd(zstd::bulk::Compressor<'static>, zstd::bulk::Decompressor<'static>);

impl RawZstd {
    pub fn new(level: i32) -> Self {
        RawZstd(zstd::bulk::Compressor::new(level).unwrap(), zstd::bulk::Decompressor::new().unwrap())
    }
}

impl Peer for RawZstd {
    fn compress(&mut self, value: &[u8], output: &mut Vec<u8>) {
        room(output, value);
        let len = self.0.compress_to_buffer(value, &mut output[..]).unwrap();
        output.truncate(len);
    }
    fn decompress(&mut self, compressed: &[u8], output: &mut [u8]) {
        assert_eq!(self.1.decompress_to_buffer(compressed, output).unwrap(), output.len());
    }
}

/// The C library of lz4.
pub struct RawLz4;

impl Peer for RawLz4 {
    fn compress(&mut self, value: &[u8], output: &mut Vec<u8>) {
        room(output, value);
        let len = lz4::block::compress_to_buffer(value, None, false, &mut output[..]).unwrap();
        output.truncate(len);
    }
    fn decompress(&mut self, compressed: &[u8], output: &mut [u8]) {
        let size = Some(output.len() as i32);
        assert_eq!(lz4::block::decompress_to_buffer(compressed, size, output).unwrap(), output.len());
    }
}

/// lz4 in Rust.
pub struct Lz4Flex;

impl Peer for Lz4Flex {
    fn compress(&mut self, value: &[u8], output: &mut Vec<u8>) {
        output.resize(lz4_flex::block::get_maximum_output_size(value.len()), 0);
        let len = lz4_flex::block::compress_into(value, output).unwrap();
        output.truncate(len);
    }
    fn decompress(&mut self, compressed: &[u8], output: &mut [u8]) {
        assert_eq!(lz4_flex::block::decompress_into(compressed, output).unwrap(), output.len());
    }
}

/// c-blosc2 with its byte shuffle, one thread, its own choice of blocks.
pub struct Blosc(*mut blosc2_context, *mut blosc2_context);

impl Blosc {
    pub fn new(zstd: bool, level: u8, width: Width) -> Self {
        let cparams = blosc2_cparams {
            compcode: if zstd { BLOSC_ZSTD } else { BLOSC_LZ4 } as u8,
            clevel: level,
            typesize: width.bytes() as i32,
            nthreads: 1,
            filters: [0, 0, 0, 0, 0, if width == Width::One { 0 } else { BLOSC_SHUFFLE as u8 }],
            ..BLOSC2_CPARAMS_DEFAULTS
        };
        let dparams = blosc2_dparams { nthreads: 1, ..BLOSC2_DPARAMS_DEFAULTS };
        // SAFETY: the parameters are whole; the contexts are freed once, when this is dropped.
        let contexts = unsafe { (blosc2_create_cctx(cparams), blosc2_create_dctx(dparams)) };
        assert!(!contexts.0.is_null() && !contexts.1.is_null());
        Blosc(contexts.0, contexts.1)
    }
}

impl Drop for Blosc {
    fn drop(&mut self) {
        // SAFETY: they came from `new` and nobody else has them.
        unsafe {
            blosc2_free_ctx(self.0);
            blosc2_free_ctx(self.1);
        }
    }
}

impl Peer for Blosc {
    fn compress(&mut self, value: &[u8], output: &mut Vec<u8>) {
        room(output, value);
        let (from, to) = (value.as_ptr().cast::<c_void>(), output.as_mut_ptr().cast());
        // SAFETY: both buffers are as long as is said.
        let len = unsafe { blosc2_compress_ctx(self.0, from, value.len() as i32, to, output.len() as i32) };
        assert!(len > 0, "c-blosc2 failed: {len}");
        output.truncate(len as usize);
    }
    fn decompress(&mut self, compressed: &[u8], output: &mut [u8]) {
        let (from, to) = (compressed.as_ptr().cast::<c_void>(), output.as_mut_ptr().cast());
        // SAFETY: both buffers are as long as is said.
        let len =
            unsafe { blosc2_decompress_ctx(self.1, from, compressed.len() as i32, to, output.len() as i32) };
        assert_eq!(len as usize, output.len());
    }
}
