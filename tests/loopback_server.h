// A small HTTP/1.1 server on 127.0.0.1 for tests: real sockets, one thread, scripted answers. What
// is no POST comes from a stranger (another test that waits for a server of its own on a port that
// was free a moment ago): it is turned away, and uses up no answer.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace autoresearch {

struct HttpRequest {
  std::string method, path, body;
  std::map<std::string, std::string> headers;  // names in lower case
};

struct HttpAnswer {
  int status = 200;
  std::vector<std::string> headers;  // "Name: value"; those about length and end are added
  std::string body;
  // How the connection ends: whole, closed before any answer, closed half-way through the body,
  // never answered, or left open behind the body (both until the client goes or the server stops).
  enum class End { kWhole, kDropped, kHalf, kHang, kOpen } end = End::kWhole;
  // How the client learns where the body ends.
  enum class Length { kNamed, kChunked, kUntilClose } length = Length::kNamed;
};

// What a chat completion looks like on the wire; tests/recorded_answers.h has the other protocols.
HttpAnswer chat_answer(const std::string& text, const std::string& finish_reason = "stop");
HttpAnswer error_answer(int status, const std::string& message,
                        std::vector<std::string> headers = {});

class LoopbackServer {
 public:
  // `answer` is called on the server's thread, with the request and its number, 0 first.
  using Handler = std::function<HttpAnswer(const HttpRequest& request, size_t index)>;

  explicit LoopbackServer(Handler answer, uint16_t port = 0);
  // The answers in order; the last one goes on for ever.
  explicit LoopbackServer(std::vector<HttpAnswer> script);
  ~LoopbackServer();
  LoopbackServer(const LoopbackServer&) = delete;
  LoopbackServer& operator=(const LoopbackServer&) = delete;

  uint16_t port() const;
  std::string url() const;  // "http://127.0.0.1:PORT/v1"
  std::vector<HttpRequest> requests() const;

 private:
  void serve();
  void handle(int connection);
  void send_answer(int connection, const HttpAnswer& answer) const;
  void wait_until_gone(int connection) const;
  bool wait_readable(int fd) const;  // false when the server stops
  bool read_request(int connection, HttpRequest& request) const;

  Handler answer_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::atomic<bool> stop_ = false;
  mutable std::mutex mutex_;
  std::vector<HttpRequest> requests_;
  std::thread thread_;
};

// A port of 127.0.0.1 on which nothing listens, and that no server gets that does not ask for it.
uint16_t unused_port();

}  // namespace autoresearch
