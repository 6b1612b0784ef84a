// In place of `score runner MODEL`: runners that do what no graph can make of an honest one. The
// "model" is a line that says what they do, and for which rows, seq_len and vocabulary. They speak
// as referee/runner.cpp does.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace {

enum Kind : uint32_t { kHello, kRun, kNats, kRow, kAnswer };

struct Header {
  uint32_t kind, size;
};

std::string how;
int64_t rows = 0, seq_len = 0, vocab = 0;

template <typename T>
void send_numbers(Kind kind, const std::vector<T>& numbers) {
  const Header header{kind, static_cast<uint32_t>(numbers.size() * sizeof(T))};
  send(0, &header, sizeof header, MSG_NOSIGNAL);
  send(0, numbers.data(), header.size, MSG_NOSIGNAL);
}

std::pair<int, uint64_t> receive_descriptor() {
  uint64_t number = 0;
  iovec part{&number, sizeof number};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &part, message.msg_iovlen = 1;
  message.msg_control = space, message.msg_controllen = sizeof space;
  if (recvmsg(0, &message, MSG_WAITALL) != sizeof number) _exit(0);
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return {fd, number};
}

void tell_nats(const std::vector<char>& asked) {
  int64_t count = 0;
  std::memcpy(&count, asked.data(), sizeof count);
  // Its logits are all zero: the truth would be ln(vocab).
  send_numbers(kNats, std::vector<double>(how == "short-nats" ? 1 : count * seq_len, 0.5));
}

void serve(bool later) {
  if (how == "ends-at-once") return;
  if (how == "no-hello") send_numbers<int64_t>(kAnswer, {rows, seq_len, vocab, 0});
  if (how == "short-hello") send_numbers<int64_t>(kHello, {rows});
  if (how == "no-rows") rows = 0;
  if (how == "more-rows") rows++;
  if (how == "a-million-rows") rows = 1 << 20;  // memory that the parent would share
  const bool keeps = how == "keeps-logits" || how == "lies" || how == "short-nats";
  send_numbers<int64_t>(kHello, {rows, seq_len, vocab, keeps});
  const auto [fd, size] = receive_descriptor();
  auto* logits = static_cast<float*>(mmap(nullptr, size, PROT_WRITE, MAP_SHARED, fd, 0));
  Header header{};
  while (recv(0, &header, sizeof header, MSG_WAITALL) == sizeof header) {
    std::vector<char> bytes(header.size);
    recv(0, bytes.data(), bytes.size(), MSG_WAITALL);
    if (how == "ends-in-a-batch") return;
    if (how == "changes" && later)
      for (uint64_t i = 0; i < size / sizeof(float); i += static_cast<uint64_t>(vocab))
        logits[i] = 1;
    if (header.kind == kNats) {
      tell_nats(bytes);
    } else {
      send_numbers<char>(how == "no-answer" ? kNats : kAnswer, {});
    }
  }
}

}  // namespace

int main(int, char** argv) {
  std::ifstream(argv[2]) >> how >> rows >> seq_len >> vocab;
  const std::string mark = std::string(argv[2]) + ".begun";
  const bool later = access(mark.c_str(), F_OK) == 0;  // the full probe has a nursery of its own
  std::ofstream(mark).flush();
  while (true) {
    const int socket = receive_descriptor().first;
    if (fork() == 0) {
      dup2(socket, 0);
      close(socket);
      serve(later);
      _exit(0);
    }
    close(socket);
  }
}
