// A file server on 127.0.0.1 for tests: HTTP/1.1 with keep-alive, ranges and validators on real
// sockets, a thread per connection. A script may change any answer, or break it anywhere.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace autoresearch {

struct FileRequest {
  std::string method, path;
  std::map<std::string, std::string> headers;  // names in lower case
  std::chrono::steady_clock::time_point time;  // when it had been read
  size_t index = 0;                            // among the requests for this path, 0 first
};

struct FileAnswer {
  int status = 200;                            // 0: nothing at all is sent
  std::map<std::string, std::string> headers;  // as sent; Content-Length is added where none is
  std::string body;
  std::string raw{};               // not empty: exactly these bytes instead of all that
  size_t cut = std::string::npos;  // bytes of the body that are sent before the end
  // What follows: the next request, an orderly close, a reset, or nothing until the client goes.
  enum class End { kKeep, kClose, kReset, kHold } end = End::kKeep;
  size_t piece = 0;  // not 0: so many bytes of the body at a time, a millisecond apart
};

class FileServer {
 public:
  // Called on the connections' threads, with the answer of an honest server (404 where no file
  // is), which it may change.
  using Script = std::function<void(const FileRequest& request, FileAnswer& answer)>;

  explicit FileServer(Script script = {});
  ~FileServer();
  FileServer(const FileServer&) = delete;
  FileServer& operator=(const FileServer&) = delete;

  // What is at `path` ("/a") from now on; `headers` may name an ETag, a Last-Modified, or others.
  void put(const std::string& path, const std::string& body,
           const std::map<std::string, std::string>& headers = {});

  uint16_t port() const { return port_; }
  std::string url() const;                               // "http://127.0.0.1:PORT"
  std::vector<FileRequest> requests() const;             // so far
  size_t most_at_once() const { return most_at_once_; }  // answers under way at a time

 private:
  struct File {
    std::string body;
    std::map<std::string, std::string> headers;
  };

  void accept_all();
  void serve(int connection);
  bool serve_one(int connection, std::string& unread);
  bool read_request(int connection, std::string& unread, FileRequest& request);
  FileAnswer honest(const FileRequest& request) const;
  bool send_answer(int connection, const FileAnswer& answer) const;
  bool wait_readable(int fd) const;

  const Script script_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::atomic<bool> stop_ = false;
  std::atomic<size_t> at_once_ = 0, most_at_once_ = 0;
  mutable std::mutex mutex_;
  std::map<std::string, File> files_;
  std::vector<FileRequest> requests_;
  std::vector<std::thread> connections_;
  std::thread thread_;
};

// An HTTP date so many seconds from now.
std::string http_date(int64_t seconds_from_now);

}  // namespace autoresearch
