#include "prepare/bytes.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
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

#include "common/descriptor.h"
#include "common/error.h"
#include "task/unicode.h"

namespace autoresearch {
namespace {

constexpr size_t kChunk = 64 << 10;  // bytes of compressed data at a time
constexpr int kTick = 50;            // milliseconds, after which a wait calls back
constexpr const char* kCopyAgain = "; copy or download it again";

class FileStream : public ByteStream {
 public:
  explicit FileStream(const fs::path& file)
      : name_(display_name(file)), fd_(::open(system_path(file).c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0) fail("open");
  }

  int64_t position() const override { return position_; }

 protected:
  size_t read_some(char* buffer, size_t size) override {
    ssize_t count;
    do count = ::read(fd_, buffer, size);
    while (count < 0 && errno == EINTR);
    if (count < 0) fail("read");
    position_ += count;
    return static_cast<size_t>(count);
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    const int reason = errno;
    throw Error(std::string("can't ") + what + " " + name_ + ": " + std::strerror(reason) +
                "; check the path given to --source");
  }

  std::string name_;
  Descriptor fd_;
  int64_t position_ = 0;
};

enum class Packing { kNone, kGzip, kZstd };

// The magic numbers: RFC 1952 with the only method there is, and RFC 8878 with its skippable
// frames.
constexpr size_t kMagicBytes = 4;
constexpr std::string_view kGzipMagic = "\x1f\x8b\x08", kZstdMagic = "\x28\xb5\x2f\xfd",
                           kSkippableMagic = "\x2a\x4d\x18";  // behind a byte 0x50 to 0x5f

bool is_skippable(std::string_view start) {
  return !start.empty() && (start[0] & 0xF0) == 0x50 &&
         start.substr(1).starts_with(kSkippableMagic.substr(0, start.size() - 1));
}

// How data goes on that begins so, of which there may be fewer bytes than a magic number has.
Packing packing_of(std::string_view start) {
  const auto begins = [&](std::string_view magic) {
    return start.starts_with(magic.substr(0, start.size()));
  };
  if (start.empty()) return Packing::kNone;
  if (begins(kGzipMagic)) return Packing::kGzip;
  return begins(kZstdMagic) || is_skippable(start.substr(0, kMagicBytes)) ? Packing::kZstd
                                                                          : Packing::kNone;
}

// What both decompressors share: the compressed side, in pieces, and where it ends.
class CompressedStream : public ByteStream {
 public:
  CompressedStream(std::unique_ptr<ByteStream> source, const fs::path& file, Findings& findings)
      : name_(display_name(file)),
        findings_(findings),
        source_(std::move(source)),
        buffer_(kChunk, '\0') {}
  int64_t position() const override { return source_->position(); }

 protected:
  size_t read_some(char* buffer, size_t size) override {
    for (;;) {
      if (!inside_ && !begin_next()) return 0;
      if (!full_ && need(1) == 0) fail_cut_short();
      if (const size_t count = decompress(buffer, size); count > 0) return count;
    }
  }

  // Between two members or frames: whether another one follows.
  virtual bool begin_next() = 0;

  // Decompresses some of `rest_` into `buffer`, and sets `inside_` and `full_`. Returns how many
  // bytes came out.
  virtual size_t decompress(char* buffer, size_t size) = 0;

  // Lets `rest_` be at least `size` bytes if there are as many; how many there are.
  size_t need(size_t size) {
    while (rest_.size() < size) {
      if (!rest_.empty()) std::memmove(buffer_.data(), rest_.data(), rest_.size());
      const size_t count =
          source_->read(buffer_.data() + rest_.size(), buffer_.size() - rest_.size());
      rest_ = {buffer_.data(), rest_.size() + count};
      if (count == 0) break;
    }
    return rest_.size();
  }

  // begin_next() of this kind. Other bytes behind a whole member or frame, as servers and editors
  // add them, are passed over like gzip does.
  bool goes_on(Packing packing) {
    if (need(kMagicBytes) == 0) return false;
    if (packing_of(rest_) == packing) return true;
    findings_.note("bytes behind the compressed data, ignored", name_);
    while (need(1) > 0) rest_ = {};
    return false;
  }

  [[noreturn]] void fail_cut_short() const {
    throw Error(name_ + " ends in the middle of its compressed data" + kCopyAgain);
  }
  [[noreturn]] void fail_damaged(const std::string& reason) const {
    throw Error(name_ + " can't be decompressed (" + reason + ")" + kCopyAgain);
  }

  std::string name_;
  std::string_view rest_;  // of the compressed data that is in memory
  bool inside_ = true;     // a member or frame; a file without any is cut short too
  bool full_ = false;      // there may be more of it without more input

 private:
  Findings& findings_;
  std::unique_ptr<ByteStream> source_;
  std::string buffer_;
};

class GzipStream : public CompressedStream {
 public:
  GzipStream(std::unique_ptr<ByteStream> source, const fs::path& file, Findings& findings)
      : CompressedStream(std::move(source), file, findings) {
    constexpr int kGzipOnly = 15 + 16;  // zlib's way to say it
    check(inflateInit2(&zlib_, kGzipOnly) == Z_OK, "zlib can't be used");
  }
  ~GzipStream() override { inflateEnd(&zlib_); }

 protected:
  // Tapes and block devices pad with zeros, which gzip passes over as well.
  bool begin_next() override {
    while (need(1) > 0 && rest_[0] == '\0') rest_.remove_prefix(1);
    return goes_on(Packing::kGzip) && inflateReset(&zlib_) == Z_OK;
  }

  size_t decompress(char* buffer, size_t size) override {
    const auto room = static_cast<uInt>(std::min(size, size_t{1} << 30));
    zlib_.next_out = reinterpret_cast<Bytef*>(buffer);
    zlib_.avail_out = room;
    zlib_.next_in = reinterpret_cast<const Bytef*>(rest_.data());
    zlib_.avail_in = static_cast<uInt>(rest_.size());
    const int result = inflate(&zlib_, Z_NO_FLUSH);
    rest_.remove_prefix(rest_.size() - zlib_.avail_in);
    inside_ = result == Z_OK;
    if (result != Z_STREAM_END && result != Z_OK) {
      fail_damaged(zlib_.msg != nullptr ? zlib_.msg : zError(result));
    }
    return room - zlib_.avail_out;
  }

 private:
  z_stream zlib_ = {};
};

class ZstdStream : public CompressedStream {
 public:
  ZstdStream(std::unique_ptr<ByteStream> source, const fs::path& file, Findings& findings)
      : CompressedStream(std::move(source), file, findings), context_(ZSTD_createDCtx()) {
    check(context_ != nullptr, "zstd can't be used");
  }
  ~ZstdStream() override { ZSTD_freeDCtx(context_); }

 protected:
  bool begin_next() override { return goes_on(Packing::kZstd); }

  size_t decompress(char* buffer, size_t size) override {
    ZSTD_outBuffer output = {buffer, size, 0};
    ZSTD_inBuffer input = {rest_.data(), rest_.size(), 0};
    const size_t result = ZSTD_decompressStream(context_, &output, &input);
    if (ZSTD_getErrorCode(result) == ZSTD_error_frameParameter_windowTooLarge) {
      throw Error(name_ + " takes more than 128 MiB of memory to decompress; compress it again " +
                  "without --long or --ultra");
    }
    if (ZSTD_isError(result)) fail_damaged(ZSTD_getErrorName(result));
    rest_.remove_prefix(input.pos);
    inside_ = result != 0;
    full_ = inside_ && output.pos == output.size;
    return output.pos;
  }

 private:
  ZSTD_DCtx* context_;
};

// Whether what can be read may begin so; a character may be cut off at the end.
bool is_readable(std::string_view start) {
  const bool utf8 = invalid_utf8_bytes(start) < 4 && start.find('\0') == start.npos;
  return utf8 || start.starts_with("PAR1") || start.starts_with("\xFF\xFE") ||
         start.starts_with("\xFE\xFF");
}

Packing packing_of_name(const fs::path& file) {
  const std::string extension = lower_extension(file);
  return extension == ".gz"    ? Packing::kGzip
         : extension == ".zst" ? Packing::kZstd
                               : Packing::kNone;
}

}  // namespace

size_t ByteStream::read(char* buffer, size_t size) {
  if (ahead_.empty()) return read_some(buffer, size);
  const size_t count = ahead_.copy(buffer, std::min(size, ahead_.size()));
  ahead_.erase(0, count);
  return count;
}

std::string_view ByteStream::peek(size_t size) {
  while (ahead_.size() < size) {
    const size_t before = ahead_.size();
    ahead_.resize(size);
    const size_t count = read_some(ahead_.data() + before, size - before);
    ahead_.resize(before + count);
    if (count == 0) break;
  }
  return std::string_view(ahead_).substr(0, size);
}

std::unique_ptr<ByteStream> open_bytes(const fs::path& file, Findings& findings) {
  constexpr int kMostLayers = 4;
  const Packing by_name = packing_of_name(file);
  std::unique_ptr<ByteStream> stream = std::make_unique<FileStream>(file);
  int layers = 0;
  for (; layers < kMostLayers; ++layers) {
    const std::string_view start = stream->peek(kMagicBytes);
    Packing packing = start.size() < kMagicBytes ? Packing::kNone : packing_of(start);
    if (layers == 0 && start.size() < kMagicBytes) packing = by_name;  // cut off at once
    if (packing == Packing::kNone) break;
    if (packing == Packing::kGzip) {
      stream = std::make_unique<GzipStream>(std::move(stream), file, findings);
    } else {
      stream = std::make_unique<ZstdStream>(std::move(stream), file, findings);
    }
  }
  if (layers == 0 && by_name != Packing::kNone) {
    check(is_readable(stream->peek(kChunk)),
          display_name(file) + " can't be decompressed (it does not begin as its name says)" +
              kCopyAgain);
    findings.note("not compressed, whatever the name says", display_name(file));
  }
  if (layers > 0 && by_name == Packing::kNone && !is_stdin(file)) {
    findings.note("decompressed, whatever the name says", display_name(file));
  }
  if (layers > 1) findings.note("compressed more than once", display_name(file));
  return stream;
}

void make_stdin_a_file(const fs::path& folder, const std::function<void()>& on_wait) {
  struct stat status = {};
  if (::fstat(STDIN_FILENO, &status) == 0 && S_ISREG(status.st_mode) &&
      ::lseek(STDIN_FILENO, 0, SEEK_CUR) == 0) {
    return;
  }
  const fs::path copy = folder / "stdin";
  const Descriptor fd(::open(copy.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  check(fd >= 0, "can't write " + copy.string() + ": " + std::strerror(errno));
  ::unlink(copy.c_str());
  std::string buffer(1 << 20, '\0');
  for (ssize_t count = 1; count != 0;) {
    pollfd input = {STDIN_FILENO, POLLIN, 0};
    on_wait();
    if (::poll(&input, 1, kTick) == 0) continue;
    count = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    check(count >= 0 || errno == EINTR, std::string("can't read stdin: ") + std::strerror(errno) +
                                            "; check what comes through the pipe");
    const auto read = static_cast<size_t>(std::max<ssize_t>(0, count));
    const bool copied = write_all(fd, std::string_view(buffer).substr(0, read));
    check(copied, "can't copy stdin to " + folder.string() + ": " + std::strerror(errno) +
                      "; free some space, and run the command again");
  }
  ::dup2(fd, STDIN_FILENO);
}

fs::path system_path(const fs::path& file) { return is_stdin(file) ? "/proc/self/fd/0" : file; }

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

}  // namespace autoresearch
