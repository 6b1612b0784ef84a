#include "prepare/bytes.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#define ZLIB_CONST  // its input is const
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <utility>

#include "common/error.h"

namespace autoresearch {
namespace {

constexpr size_t kChunk = 64 << 10;  // bytes of compressed data at a time
constexpr int kTick = 50;            // milliseconds, after which a wait looks at `stop`
constexpr const char* kCopyAgain = "; copy or download it again";

class FileStream : public ByteStream {
 public:
  FileStream(const fs::path& file, const std::atomic<bool>* stop)
      : name_(display_name(file)),
        fd_(is_stdin(file) ? ::dup(STDIN_FILENO) : ::open(file.c_str(), O_RDONLY | O_CLOEXEC)),
        stop_(is_stdin(file) ? stop : nullptr) {
    if (fd_ < 0) fail("open");
  }
  ~FileStream() override { ::close(fd_); }
  FileStream(const FileStream&) = delete;
  FileStream& operator=(const FileStream&) = delete;

  size_t read(char* buffer, size_t size) override {
    const size_t count = ahead_.empty() ? read_some(buffer, size)
                                        : ahead_.copy(buffer, std::min(size, ahead_.size()));
    if (!ahead_.empty()) ahead_.erase(0, count);
    position_ += static_cast<int64_t>(count);
    return count;
  }

  int64_t position() const override { return position_; }

  // The next `size` bytes, fewer at the end, without consuming them.
  const std::string& peek(size_t size) {
    char byte;
    while (ahead_.size() < size && read_some(&byte, 1) == 1) ahead_ += byte;
    return ahead_;
  }

 private:
  size_t read_some(char* buffer, size_t size) {
    if (stop_ != nullptr) wait();
    ssize_t count;
    do count = ::read(fd_, buffer, size);
    while (count < 0 && errno == EINTR);
    if (count < 0) fail("read");
    return static_cast<size_t>(count);
  }

  // Until there is something to read, or the end.
  void wait() const {
    pollfd input = {fd_, POLLIN, 0};
    do {
      if (*stop_) throw Error("interrupted while reading " + name_, kInterrupted);
    } while (::poll(&input, 1, kTick) <= 0);
  }

  [[noreturn]] void fail(const char* what) const {
    const int reason = errno;
    throw Error(std::string("can't ") + what + " " + name_ + ": " + std::strerror(reason) +
                "; check the path given to --source");
  }

  std::string name_, ahead_;
  int fd_;
  const std::atomic<bool>* stop_;
  int64_t position_ = 0;
};

// What both decompressors share: the compressed side, in pieces.
class CompressedStream : public ByteStream {
 public:
  CompressedStream(std::unique_ptr<ByteStream> source, const fs::path& file)
      : name_(display_name(file)), source_(std::move(source)), input_(kChunk, '\0') {}
  int64_t position() const override { return source_->position(); }

 protected:
  // The next piece of compressed data; empty at the end.
  std::string_view next_input() {
    return {input_.data(), source_->read(input_.data(), input_.size())};
  }
  [[noreturn]] void fail_cut_short() const {
    throw Error(name_ + " ends in the middle of its compressed data" + kCopyAgain);
  }
  [[noreturn]] void fail_damaged(const std::string& reason) const {
    throw Error(name_ + " can't be decompressed (" + reason + ")" + kCopyAgain);
  }

  std::string name_;

 private:
  std::unique_ptr<ByteStream> source_;
  std::string input_;
};

class GzipStream : public CompressedStream {
 public:
  GzipStream(std::unique_ptr<ByteStream> source, const fs::path& file)
      : CompressedStream(std::move(source), file) {
    constexpr int kGzipOnly = 15 + 16;  // zlib's way to say it
    check(inflateInit2(&zlib_, kGzipOnly) == Z_OK, "zlib can't be used");
  }
  ~GzipStream() override { inflateEnd(&zlib_); }

  size_t read(char* buffer, size_t size) override {
    zlib_.next_out = reinterpret_cast<Bytef*>(buffer);
    zlib_.avail_out = static_cast<uInt>(std::min(size, size_t{1} << 30));
    const uInt room = zlib_.avail_out;
    while (zlib_.avail_out == room) {
      if (zlib_.avail_in == 0 && !refill()) {
        if (inside_) fail_cut_short();
        return 0;
      }
      inside_ ? inflate_some() : begin_member();
    }
    return room - zlib_.avail_out;
  }

 private:
  bool refill() {
    const std::string_view input = next_input();
    zlib_.next_in = reinterpret_cast<const Bytef*>(input.data());
    zlib_.avail_in = static_cast<uInt>(input.size());
    return !input.empty();
  }

  // Tapes and block devices pad with zeros, which gzip passes over as well.
  void begin_member() {
    while (zlib_.avail_in > 0 && *zlib_.next_in == 0) ++zlib_.next_in, --zlib_.avail_in;
    inside_ = zlib_.avail_in > 0;
    if (inside_) inflateReset(&zlib_);
  }

  void inflate_some() {
    const int result = inflate(&zlib_, Z_NO_FLUSH);
    if (result == Z_STREAM_END) inside_ = false;
    if (result != Z_STREAM_END && result != Z_OK) {
      fail_damaged(zlib_.msg != nullptr ? zlib_.msg : zError(result));
    }
  }

  z_stream zlib_ = {};
  bool inside_ = true;  // a member: a file without any is cut short too
};

class ZstdStream : public CompressedStream {
 public:
  ZstdStream(std::unique_ptr<ByteStream> source, const fs::path& file)
      : CompressedStream(std::move(source), file), context_(ZSTD_createDCtx()) {
    check(context_ != nullptr, "zstd can't be used");
  }
  ~ZstdStream() override { ZSTD_freeDCtx(context_); }

  size_t read(char* buffer, size_t size) override {
    ZSTD_outBuffer output = {buffer, size, 0};
    for (bool ended = false; output.pos == 0;) {
      if (input_.pos == input_.size && !full_) {
        const std::string_view input = next_input();
        input_ = {input.data(), input.size(), 0};
        ended = input.empty();
      }
      if (ended && inside_) fail_cut_short();
      if (ended) return 0;
      const size_t result = ZSTD_decompressStream(context_, &output, &input_);
      if (ZSTD_isError(result)) fail(result);
      inside_ = result != 0;
      full_ = inside_ && output.pos == output.size;  // there may be more, without more input
    }
    return output.pos;
  }

 private:
  [[noreturn]] void fail(size_t result) const {
    if (ZSTD_getErrorCode(result) == ZSTD_error_frameParameter_windowTooLarge) {
      throw Error(name_ + " takes more than 128 MiB of memory to decompress; compress it again " +
                  "without --long or --ultra");
    }
    fail_damaged(ZSTD_getErrorName(result));
  }

  ZSTD_DCtx* context_;
  ZSTD_inBuffer input_ = {nullptr, 0, 0};
  bool inside_ = true, full_ = false;  // inside a frame: a file without any is cut short too
};

}  // namespace

std::unique_ptr<ByteStream> open_bytes(const fs::path& file, const std::atomic<bool>* stop) {
  auto stream = std::make_unique<FileStream>(file, stop);
  std::string form = lower_extension(file);
  if (is_stdin(file)) {
    const std::string& start = stream->peek(4);
    check(start != "PAR1", "stdin holds a parquet file, which can't be read from a pipe; give " +
                               std::string("its path to --source"));
    form = start.starts_with("\x1f\x8b") ? ".gz" : start == "\x28\xb5\x2f\xfd" ? ".zst" : "";
  }
  if (form == ".gz") return std::make_unique<GzipStream>(std::move(stream), file);
  if (form == ".zst") return std::make_unique<ZstdStream>(std::move(stream), file);
  return stream;
}

bool is_stdin(const fs::path& file) { return file == "-" || file == "-.jsonl"; }

fs::path plain_name(const fs::path& file) {
  const std::string extension = lower_extension(file);
  const bool compressed = extension == ".gz" || extension == ".zst";
  return compressed ? file.parent_path() / file.stem() : file;
}

std::string lower_extension(const fs::path& file) {
  std::string extension = file.extension().string();
  for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return extension;
}

std::string display_name(const fs::path& file) { return is_stdin(file) ? "stdin" : file.string(); }

bool is_binary(std::string_view start) {
  return start.substr(0, kBinaryProbe).find('\0') != std::string_view::npos;
}

void check_is_text(const fs::path& file, std::string_view start) {
  check(!is_binary(start), display_name(file) + " is a binary file; give --source text, source " +
                               "code, .jsonl or .parquet files, or folders");
}

}  // namespace autoresearch
