#include "tests/loopback_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <utility>

namespace autoresearch {
namespace {

// A listening socket on 127.0.0.1; port 0 lets the kernel choose.
int listen_on(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      listen(fd, 16) != 0) {
    if (fd >= 0) close(fd);
    throw std::runtime_error("can't listen on 127.0.0.1:" + std::to_string(port));
  }
  return fd;
}

uint16_t port_of(int fd) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

void send_all(int fd, const std::string& text) {
  for (size_t sent = 0; sent < text.size();) {
    const ssize_t n = send(fd, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return;
    sent += n;
  }
}

void read_headers(const std::string& head, HttpRequest& request) {
  const size_t space = head.find(' ');
  request.method = head.substr(0, space);
  request.path = head.substr(space + 1, head.find(' ', space + 1) - space - 1);
  for (size_t at = head.find("\r\n"); at != std::string::npos;) {
    const size_t begin = at + 2, end = head.find("\r\n", begin), colon = head.find(": ", begin);
    if (colon != std::string::npos && colon < std::min(end, head.size())) {
      std::string name = head.substr(begin, colon - begin);
      std::transform(name.begin(), name.end(), name.begin(),
                     [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      request.headers[name] =
          head.substr(colon + 2, end == std::string::npos ? end : end - colon - 2);
    }
    at = end;
  }
}

}  // namespace

HttpAnswer chat_answer(const std::string& text, const std::string& finish_reason) {
  const nlohmann::json body = {
      {"id", "chatcmpl-1"},
      {"object", "chat.completion"},
      {"model", "scripted"},
      {"choices",
       {{{"index", 0},
         {"message", {{"role", "assistant"}, {"content", text}}},
         {"finish_reason", finish_reason}}}},
      {"usage", {{"prompt_tokens", 1200}, {"completion_tokens", 34}, {"total_tokens", 1234}}}};
  return {200, {"Content-Type: application/json"}, body.dump(), HttpAnswer::End::kWhole};
}

HttpAnswer error_answer(int status, const std::string& message, std::vector<std::string> headers) {
  const nlohmann::json body = {
      {"error", {{"message", message}, {"type", "error"}, {"code", nullptr}}}};
  headers.push_back("Content-Type: application/json");
  return {status, std::move(headers), body.dump(), HttpAnswer::End::kWhole};
}

LoopbackServer::LoopbackServer(Handler answer, uint16_t port)
    : answer_(std::move(answer)), listener_(listen_on(port)), port_(port_of(listener_)) {
  thread_ = std::thread([this] { serve(); });
}

LoopbackServer::LoopbackServer(std::vector<HttpAnswer> script)
    : LoopbackServer([script = std::move(script)](const HttpRequest&, size_t index) {
        return script.at(std::min(index, script.size() - 1));
      }) {}

LoopbackServer::~LoopbackServer() {
  stop_ = true;
  thread_.join();
  close(listener_);
}

uint16_t LoopbackServer::port() const { return port_; }

std::string LoopbackServer::url() const {
  return "http://127.0.0.1:" + std::to_string(port_) + "/v1";
}

std::vector<HttpRequest> LoopbackServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void LoopbackServer::serve() {
  while (wait_readable(listener_)) {
    const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    handle(connection);
    close(connection);
  }
}

bool LoopbackServer::wait_readable(int fd) const {
  pollfd waiting{fd, POLLIN, 0};
  while (!stop_) {
    if (poll(&waiting, 1, 5) > 0) return true;
  }
  return false;
}

bool LoopbackServer::read_request(int connection, HttpRequest& request) const {
  std::string text;
  size_t body_size = 0, head_size = std::string::npos;
  while (head_size == std::string::npos || text.size() < head_size + body_size) {
    char buffer[1 << 16];
    if (!wait_readable(connection)) return false;
    const ssize_t n = recv(connection, buffer, sizeof buffer, 0);
    if (n <= 0) return false;
    text.append(buffer, n);
    if (head_size != std::string::npos) continue;
    const size_t end = text.find("\r\n\r\n");
    if (end == std::string::npos) continue;
    head_size = end + 4;
    read_headers(text.substr(0, end), request);
    const auto length = request.headers.find("content-length");
    body_size = length == request.headers.end() ? 0 : std::stoul(length->second);
  }
  request.body = text.substr(head_size, body_size);
  return true;
}

void LoopbackServer::handle(int connection) {
  HttpRequest request;
  if (!read_request(connection, request)) return;
  if (request.method != "POST") return send_answer(connection, error_answer(405, "POST only"));
  size_t index = 0;
  {
    const std::lock_guard lock(mutex_);
    index = requests_.size();
    requests_.push_back(request);
  }
  const HttpAnswer answer = answer_(request, index);
  if (answer.end == HttpAnswer::End::kDropped) return;
  if (answer.end != HttpAnswer::End::kHang) send_answer(connection, answer);
  const bool waits = answer.end == HttpAnswer::End::kHang || answer.end == HttpAnswer::End::kOpen;
  if (waits) wait_until_gone(connection);
}

void LoopbackServer::wait_until_gone(int connection) const {
  char byte;  // readable means that the client has gone
  if (wait_readable(connection)) (void)recv(connection, &byte, 1, 0);
}

// A chunked body goes in small pieces, which cut lines and characters where they fall.
void LoopbackServer::send_answer(int connection, const HttpAnswer& answer) const {
  using Length = HttpAnswer::Length;
  std::string head = "HTTP/1.1 " + std::to_string(answer.status) + " Scripted\r\n";
  for (const std::string& header : answer.headers) head += header + "\r\n";
  if (answer.length == Length::kNamed) {
    const size_t more = answer.end == HttpAnswer::End::kOpen;  // a byte that never comes
    head += "Content-Length: " + std::to_string(answer.body.size() + more) + "\r\n";
  }
  if (answer.length == Length::kChunked) head += "Transfer-Encoding: chunked\r\n";
  send_all(connection, head + "Connection: close\r\n\r\n");
  const bool half = answer.end == HttpAnswer::End::kHalf;
  const std::string body = answer.body.substr(0, answer.body.size() / (half ? 2 : 1));
  if (answer.length != Length::kChunked) return send_all(connection, body);
  constexpr size_t kPiece = 61;
  for (size_t at = 0; at < body.size(); at += kPiece) {
    const std::string piece = body.substr(at, kPiece);
    char size[16];
    std::snprintf(size, sizeof size, "%zx\r\n", piece.size());
    send_all(connection, size + piece + "\r\n");
  }
  if (answer.end == HttpAnswer::End::kWhole) send_all(connection, "0\r\n\r\n");
}

uint16_t unused_port() {
  // Below the range from which Linux gives a port to who asks for any.
  std::uniform_int_distribution<uint16_t> any(20'000, 32'767);
  std::random_device random;
  while (true) {
    const uint16_t port = any(random);
    try {
      close(listen_on(port));
      return port;
    } catch (const std::runtime_error&) {  // it is taken
    }
  }
}

}  // namespace autoresearch
