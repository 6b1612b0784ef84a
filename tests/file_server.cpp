#include "tests/file_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <ctime>
#include <stdexcept>

namespace autoresearch {
namespace {

using End = FileAnswer::End;

// False when the client has gone.
bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t count = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  return true;
}

// Closing now sends a reset, as when a machine in between gives up.
void close_with_reset(int fd) {
  const linger at_once{1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

std::string header(const std::map<std::string, std::string>& headers, const std::string& name) {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

}  // namespace

FileServer::FileServer(Script script)
    : script_(std::move(script)), listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (listener_ < 0 || bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      listen(listener_, 64) != 0 ||
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    throw std::runtime_error("can't listen on 127.0.0.1");
  }
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { accept_all(); });
}

FileServer::~FileServer() {
  stop_ = true;
  thread_.join();
  for (std::thread& connection : connections_) connection.join();
  close(listener_);
}

void FileServer::put(const std::string& path, const std::string& body,
                     const std::map<std::string, std::string>& headers) {
  const std::lock_guard lock(mutex_);
  files_[path] = {body, headers};
}

std::string FileServer::url() const { return "http://127.0.0.1:" + std::to_string(port_); }

std::vector<FileRequest> FileServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

bool FileServer::wait_readable(int fd) const {
  pollfd waiting{fd, POLLIN, 0};
  while (!stop_) {
    if (poll(&waiting, 1, 5) > 0) return true;
  }
  return false;
}

void FileServer::accept_all() {
  while (wait_readable(listener_)) {
    const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection >= 0) connections_.emplace_back([this, connection] { serve(connection); });
  }
}

void FileServer::serve(int connection) {
  std::string unread;
  while (serve_one(connection, unread)) {
  }
  close(connection);
}

// False when the connection is over.
bool FileServer::serve_one(int connection, std::string& unread) {
  FileRequest request;
  if (!read_request(connection, unread, request)) return false;
  FileAnswer answer = honest(request);
  if (script_) script_(request, answer);
  const size_t now = ++at_once_;
  for (size_t most = most_at_once_; now > most && !most_at_once_.compare_exchange_weak(most, now);)
    ;
  const bool sent = send_answer(connection, answer);
  --at_once_;
  if (!sent) return false;
  if (answer.end == End::kReset) close_with_reset(connection);
  if (answer.end == End::kHold && wait_readable(connection)) {
    char byte;  // readable means that the client has gone
    (void)recv(connection, &byte, 1, 0);
  }
  return answer.end == End::kKeep;
}

bool FileServer::read_request(int connection, std::string& unread, FileRequest& request) {
  size_t end;
  while ((end = unread.find("\r\n\r\n")) == std::string::npos) {
    char buffer[1 << 12];
    if (!wait_readable(connection)) return false;
    const ssize_t count = recv(connection, buffer, sizeof buffer, 0);
    if (count <= 0) return false;
    unread.append(buffer, static_cast<size_t>(count));
  }
  const std::string head = unread.substr(0, end + 2);
  unread.erase(0, end + 4);
  const size_t space = head.find(' ');
  request.method = head.substr(0, space);
  request.path = head.substr(space + 1, head.find(' ', space + 1) - space - 1);
  for (size_t begin = head.find("\r\n") + 2; begin < head.size();) {
    const size_t stop = head.find("\r\n", begin), colon = head.find(": ", begin);
    std::string name = head.substr(begin, colon - begin);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (colon < stop) request.headers[name] = head.substr(colon + 2, stop - colon - 2);
    begin = stop + 2;
  }
  request.time = std::chrono::steady_clock::now();
  const std::lock_guard lock(mutex_);
  request.index = static_cast<size_t>(
      std::count_if(requests_.begin(), requests_.end(),
                    [&](const FileRequest& one) { return one.path == request.path; }));
  requests_.push_back(request);
  return true;
}

// RFC 9110: the whole file, or the rest of it where the validator still holds.
FileAnswer FileServer::honest(const FileRequest& request) const {
  const std::lock_guard lock(mutex_);
  FileAnswer answer;
  const auto file = files_.find(request.path);
  if (file == files_.end()) {
    answer.status = 404;
    answer.body = "no such file";
    return answer;
  }
  const auto& [body, headers] = file->second;
  answer.headers = headers;
  answer.headers.emplace("Date", http_date(0));
  answer.body = body;
  const std::string range = header(request.headers, "range");
  const std::string if_range = header(request.headers, "if-range");
  const bool current = if_range.empty() || if_range == header(headers, "ETag") ||
                       if_range == header(headers, "Last-Modified");
  if (!range.starts_with("bytes=") || !current) return answer;
  const size_t from = std::stoul(range.substr(6));
  if (from >= body.size()) {
    answer.status = 416;
    answer.headers["Content-Range"] = "bytes */" + std::to_string(body.size());
    answer.body.clear();
    return answer;
  }
  answer.status = 206;
  answer.headers["Content-Range"] = "bytes " + std::to_string(from) + "-" +
                                    std::to_string(body.size() - 1) + "/" +
                                    std::to_string(body.size());
  answer.body = body.substr(from);
  return answer;
}

// False when the client has gone.
bool FileServer::send_answer(int connection, const FileAnswer& answer) const {
  if (answer.status == 0) return true;
  if (!answer.raw.empty()) return send_all(connection, answer.raw);
  std::string head = "HTTP/1.1 " + std::to_string(answer.status) + " Scripted\r\n";
  for (const auto& [name, value] : answer.headers) head += name + ": " + value + "\r\n";
  if (!answer.headers.contains("Content-Length"))
    head += "Content-Length: " + std::to_string(answer.body.size()) + "\r\n";
  if (!send_all(connection, head + "\r\n")) return false;
  std::string_view body = std::string_view(answer.body).substr(0, answer.cut);
  while (answer.piece > 0 && !body.empty() && !stop_) {
    if (!send_all(connection, body.substr(0, answer.piece))) return false;
    body.remove_prefix(std::min(answer.piece, body.size()));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return send_all(connection, body);
}

std::string http_date(int64_t seconds_from_now) {
  const time_t then = std::time(nullptr) + seconds_from_now;
  std::tm parts{};
  gmtime_r(&then, &parts);
  char text[64];
  std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return text;
}

}  // namespace autoresearch
