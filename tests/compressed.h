// What tests compress.
#pragma once

#include <zlib.h>
#include <zstd.h>

#include <string>

#include "common/error.h"

namespace autoresearch {

inline std::string gzip(const std::string& text) {
  z_stream stream = {};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string packed(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  check(deflate(&stream, Z_FINISH) == Z_STREAM_END, "gzip failed");
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

// With the checksum that the command line tool adds.
inline std::string zstd(const std::string& text, int window_log = 0) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  ZSTD_outBuffer output = {packed.data(), packed.size(), 0};
  ZSTD_inBuffer input = {text.data(), text.size(), 0};
  // In two steps: of what is known to be short, it would shrink the window.
  check(!ZSTD_isError(ZSTD_compressStream2(context, &output, &input, ZSTD_e_continue)) &&
            ZSTD_compressStream2(context, &output, &input, ZSTD_e_end) == 0,
        "zstd failed");
  packed.resize(output.pos);
  ZSTD_freeCCtx(context);
  return packed;
}

}  // namespace autoresearch
