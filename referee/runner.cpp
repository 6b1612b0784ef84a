#include "referee/runner.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <sstream>

#include "common/error.h"
#include "common/limits.h"
#include "common/nvidia.h"
#include "common/sandbox.h"
#include "common/seccomp.h"
#include "referee/graph.h"
#include "referee/refusal.h"

namespace autoresearch {
namespace {

// ------------------------------------------------------------------------------------------------
// Messages

enum Kind : uint32_t {
  kHello,  // runner: Shape, and whether it keeps the logits; the parent answers with the memory
  kRun,    // parent: ids, uint16; runner: kAnswer
  kNats,   // parent: places and targets, int64; runner: kNats with float64
  kRow,    // parent: a place; runner: kAnswer, and the row stands at the memory's beginning
  kAnswer,
  kFailed  // runner: an exit code, then what was wrong
};

struct Header {
  uint32_t kind;
  uint32_t size;  // bytes that follow
};

constexpr uint32_t kLargest = uint32_t{1} << 28;  // bytes of a message

void write_all(int fd, const void* data, size_t size) {
  const char* at = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) throw Error("the other side has ended");
    at += n;
    size -= static_cast<size_t>(n);
  }
}

bool read_all(int fd, void* data, size_t size) {
  char* at = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t n = recv(fd, at, size, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

void send_message(int fd, Kind kind, const void* data, size_t size) {
  const Header header{kind, static_cast<uint32_t>(size)};
  write_all(fd, &header, sizeof header);
  write_all(fd, data, size);
}

// Nothing where the other side has ended.
struct Message {
  uint32_t kind;
  std::vector<char> bytes;
};
std::optional<Message> read_message(int fd) {
  Header header;
  if (!read_all(fd, &header, sizeof header)) return std::nullopt;
  if (header.size > kLargest) throw Error("a message is too large");
  Message message{header.kind, std::vector<char>(header.size)};
  if (!read_all(fd, message.bytes.data(), header.size)) return std::nullopt;
  return message;
}

// A number with room for a descriptor beside it, as sendmsg and recvmsg take it.
struct Parcel {
  explicit Parcel(uint64_t number) : number(number) {
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = space;
    message.msg_controllen = sizeof space;
  }
  Parcel(const Parcel&) = delete;

  uint64_t number;
  iovec part{&number, sizeof number};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
};

void send_descriptor(int socket, int fd, uint64_t number) {
  Parcel parcel(number);
  cmsghdr* control = CMSG_FIRSTHDR(&parcel.message);
  control->cmsg_level = SOL_SOCKET;
  control->cmsg_type = SCM_RIGHTS;
  control->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(control), &fd, sizeof fd);
  // If the other side has ended, the next message to be read tells why.
  [[maybe_unused]] const ssize_t n = sendmsg(socket, &parcel.message, MSG_NOSIGNAL);
}

// Nothing and 0 if the other side has ended.
std::pair<Descriptor, uint64_t> receive_descriptor(int socket) {
  Parcel parcel(0);
  ssize_t n;
  do n = recvmsg(socket, &parcel.message, MSG_CMSG_CLOEXEC | MSG_WAITALL);
  while (n < 0 && errno == EINTR);
  const cmsghdr* control = CMSG_FIRSTHDR(&parcel.message);
  if (n != static_cast<ssize_t>(sizeof parcel.number) || control == nullptr) return {};
  int fd;
  std::memcpy(&fd, CMSG_DATA(control), sizeof fd);
  return {Descriptor(fd), parcel.number};
}

// ------------------------------------------------------------------------------------------------
// The runner's side

// libtorch's CUDA half is opened only for a model that needs it: it doubles the time to start and
// takes four times the memory.
at::Device open_cuda(const std::string& wanted) {
  const bool loaded = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) != nullptr;
  check(loaded && at::globalContext().hasCUDA(),
        "the model needs a GPU, and CUDA can't be used here; see build/train --device cuda");
  const int index = wanted.starts_with("cuda:") ? std::stoi(wanted.substr(5)) : 0;
  check(index < static_cast<int>(at::getNumGPUs()), "no device " + wanted + " here");
  const at::Device device(at::kCUDA, static_cast<at::DeviceIndex>(index));
  c10::impl::VirtualGuardImpl(at::kCUDA).setDevice(device);  // or the first one's memory is taken
  return device;
}

// The device to compute on. On a CPU the process is locked from here on: before a byte of the file
// is parsed, since its runners share a sandbox.
at::Device choose_and_lock(const std::string& wanted, std::string_view file) {
  if (wanted.starts_with("cuda") ||
      (wanted == "auto" && has_nvidia_device() && seems_sealed_on_cuda(file)))
    return open_cuda(wanted);
  lock_down();
  return at::kCPU;
}

class Served {
 public:
  Served(const fs::path& path, const std::string& device, bool keeps_logits)
      : model_(load(path, device)),
        keeps_logits_(keeps_logits || model_.device.is_cuda()),
        graph_((check_rows(), model_)) {}

  void serve() {
    const int64_t hello[] = {model_.rows, model_.seq_len, model_.vocab_size, keeps_logits_};
    send_message(STDIN_FILENO, kHello, hello, sizeof hello);
    const auto [fd, size] = receive_descriptor(STDIN_FILENO);
    if (fd < 0) return;
    void* mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    check(mapped != MAP_FAILED,
          std::string("the shared memory can't be mapped: ") + std::strerror(errno));
    memory_ = static_cast<float*>(mapped);
    while (const auto message = read_message(STDIN_FILENO)) answer(*message);
  }

 private:
  static SealedModel load(const fs::path& path, const std::string& wanted) {
    check(fs::is_regular_file(path), "there is no sealed model at " + path.string());
    const std::string file = read_file(path);
    const at::Device device = choose_and_lock(wanted, file);
    set_precision(device);
    return parse_sealed(file, path.string(), device);
  }

  // How many rows a batch has is the harness's choice, and on a CPU the same for all models.
  void check_rows() const {
    const int64_t rows =
        model_.device.is_cpu() ? scoring_rows_on_cpu(model_.seq_len) : kMostScoringRows;
    if (model_.device.is_cpu() ? model_.rows == rows : model_.rows <= rows) return;
    refuse("the model was sealed for batches of " + std::to_string(model_.rows) +
           " rows; this scorer uses " + std::to_string(rows) + "; train it again");
  }

  void answer(const Message& message) {
    if (message.kind == kRun) run(message.bytes);
    if (message.kind == kNats) return tell_nats(message.bytes);
    if (message.kind == kRow) {
      int64_t place;
      std::memcpy(&place, message.bytes.data(), sizeof place);
      publish(logits_[place]);
    }
    send_message(STDIN_FILENO, kAnswer, nullptr, 0);
  }

  void run(const std::vector<char>& bytes) {
    at::Tensor ids = at::empty({model_.rows, model_.seq_len}, at::kLong);
    const auto* from = reinterpret_cast<const uint16_t*>(bytes.data());
    std::copy(from, from + ids.numel(), ids.mutable_data_ptr<int64_t>());
    logits_ = graph_(ids.to(model_.device));
    if (!keeps_logits_) publish(logits_);
  }

  void publish(const at::Tensor& logits) {
    const at::Tensor target = at::from_blob(memory_, logits.sizes(), at::kFloat);
    target.copy_(logits);
  }

  // The logits of the batch are final: only now does this process hear the targets.
  void tell_nats(const std::vector<char>& bytes) {
    const auto* numbers = reinterpret_cast<const int64_t*>(bytes.data());
    const int64_t count = numbers[0];
    const at::Tensor places = at::from_blob(const_cast<int64_t*>(numbers + 1), {count}, at::kLong);
    const at::Tensor targets = at::from_blob(const_cast<int64_t*>(numbers + 1 + count),
                                             {count, model_.seq_len}, at::kLong);
    const at::Tensor nats =
        token_nats(logits_.index_select(0, places.to(model_.device)), targets).contiguous();
    send_message(STDIN_FILENO, kNats, nats.const_data_ptr(), nats.nbytes());
  }

  SealedModel model_;
  bool keeps_logits_;
  Graph graph_;
  float* memory_ = nullptr;
  at::Tensor logits_;
};

}  // namespace

at::Tensor token_nats(const at::Tensor& logits, const at::Tensor& targets) {
  return at::cross_entropy_loss(logits.to(at::kFloat).flatten(0, 1),
                                targets.to(logits.device()).flatten(), {}, at::Reduction::None)
      .to(at::kDouble)
      .view(targets.sizes())
      .cpu();
}

namespace {

// Of one runner, which speaks over standard input.
int serve(const fs::path& model, const std::string& device, bool keeps_logits) {
  const auto fail = [](int32_t code, const std::string& text) {
    std::string bytes(reinterpret_cast<const char*>(&code), sizeof code);
    bytes += text;
    try {
      send_message(STDIN_FILENO, kFailed, bytes.data(), bytes.size());
    } catch (const Error&) {  // the parent has ended
    }
    return code;
  };
  try {
    Served(model, device, keeps_logits).serve();
    return kDone;
  } catch (const Error& error) {
    return fail(error.code, error.what());
  } catch (const c10::OutOfMemoryError& error) {
    return fail(kOutOfMemory, "out of memory while scoring: " + first_line(error));
  } catch (const std::exception& error) {
    return fail(kError, first_line(error));
  }
}

}  // namespace

int nursery_main(const fs::path& model, const std::string& device, bool keeps_logits) {
  const at::NoGradGuard no_grad;
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // without a sandbox nothing else ends it with its parent
  signal(SIGCHLD, SIG_IGN);          // nobody asks for the runners' exit codes
  while (true) {
    const Descriptor socket = receive_descriptor(STDIN_FILENO).first;
    if (socket < 0) return kDone;
    const pid_t child = fork();
    check(child >= 0, std::string("can't fork a runner: ") + std::strerror(errno));
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      dup2(socket, STDIN_FILENO);
      // No words of its own: runners would share them.
      const int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
      dup2(nowhere, STDOUT_FILENO);
      dup2(nowhere, STDERR_FILENO);
      close_range(STDERR_FILENO + 1, ~0U, 0);  // above all, the sockets of other runners
      _exit(serve(model, device, keeps_logits));
    }
  }
}

// ------------------------------------------------------------------------------------------------
// The parent's side

struct Runner::Mapping {
  Mapping(size_t size) : size(size) {
    fd = Descriptor(memfd_create("logits", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    // Allocated now: a lack of memory would otherwise be a signal in the middle of a read. Sealed:
    // so would be a file that the runner makes shorter.
    const bool made = fd >= 0 && fallocate(fd, 0, 0, static_cast<off_t>(size)) == 0 &&
                      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0;
    data = made ? mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    check(data != MAP_FAILED,
          std::string("no memory to share with a runner: ") + std::strerror(errno));
  }
  ~Mapping() { munmap(data, size); }
  Descriptor fd;
  size_t size;
  void* data;
};

namespace {

// Folders that a program linked with libtorch needs to start, as CMake found them; one that is not
// here (another machine's) is left out, LD_LIBRARY_PATH may name what takes its place.
std::vector<fs::path> libraries() {
  std::vector<fs::path> result;
  std::istringstream names(AUTORESEARCH_SYSTEM);
  std::error_code ignored;
  for (std::string name; std::getline(names, name, ':');)
    if (fs::exists(name, ignored)) result.push_back(name);
  return result;
}

Command nursery_command(const RunnerOptions& options, int input) {
  std::vector<std::string> argv = {options.program.string(), "runner", options.model.string(),
                                   "--device", options.device};
  if (options.keeps_logits) argv.push_back("--keep-logits");
  View view{.read_only = libraries(), .gpu = options.device != "cpu"};
  view.read_only.push_back(options.program);
  view.read_only.push_back(options.model);
  Command command{.argv = std::move(argv), .env = scrubbed_environment()};
  if (options.threads > 0)
    command.env.push_back("OMP_NUM_THREADS=" + std::to_string(options.threads));
  command.input_fd = input;
  command.limit = 1e9;  // whoever started the scorer limits it
  command.max_rss_bytes = usable_memory();
  return options.sandboxed ? confine(std::move(command), view) : command;
}

// What stands in a runner's last message, or in its output, came from a hostile file: one line.
std::string plain(const std::string& text) {
  std::string result;
  for (const char c : text.substr(0, 400)) {
    if (c == '\n') break;
    if (c >= ' ' && c <= '~') result += c;
  }
  return result;
}

}  // namespace

static std::pair<Descriptor, Descriptor> socket_pair() {
  int ends[2];
  check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0,
        std::string("no socket for a runner: ") + std::strerror(errno));
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

Nursery::Nursery(const RunnerOptions& options) {
  auto [ours, theirs] = socket_pair();
  socket_ = std::move(ours);
  thread_ = std::thread([this, options, input = std::move(theirs)]() mutable {
    // The child has its own copy; ours must go, or the nursery's end would not show as one.
    try {
      Command command = nursery_command(options, input);
      command.stop = [this] { return stop_.load(); };
      command.before_exec = [&](pid_t, uint64_t) { input.close(); };
      exit_ = run(command);
    } catch (...) {
      failure_ = std::current_exception();
      input.close();
    }
    ended_.set_value();
  });
}

Nursery::~Nursery() {
  socket_.close();
  stop_ = true;
  thread_.join();
}

Descriptor Nursery::fork_runner() {
  auto [ours, theirs] = socket_pair();
  send_descriptor(socket_, theirs, 0);
  return std::move(ours);
}

void Nursery::explain_end() {
  if (end_.wait_for(std::chrono::seconds(2)) != std::future_status::ready) return;
  if (failure_) std::rethrow_exception(failure_);
  if (exit_.over_memory)
    throw Error("running the model takes more memory than may be used here", kOutOfMemory);
  const std::string said = exit_.output.substr(0, exit_.output.find_last_not_of("\n ") + 1);
  if (exit_.timed_out || exit_.interrupted || said.empty()) return;
  throw Error("the scorer can't start a process for the model: " +
              plain(said.substr(said.rfind('\n') + 1)));
}

bool may_use_gpu(const std::string& device) {
  return device.starts_with("cuda") || (device == "auto" && has_nvidia_device());
}

std::vector<std::shared_ptr<Nursery>> nurseries(const RunnerOptions& options, int64_t runners) {
  const bool gpu = may_use_gpu(options.device);
  std::vector<std::shared_ptr<Nursery>> result;
  for (int64_t i = 0; i < runners; i++)
    result.push_back(gpu || i == 0 ? std::make_shared<Nursery>(options) : result[0]);
  return result;
}

Runner::Runner(std::shared_ptr<Nursery> nursery)
    : nursery_(std::move(nursery)), socket_(nursery_->fork_runner()) {}

Runner::~Runner() = default;

std::vector<char> Runner::receive(uint32_t kind) {
  const auto message = read_message(socket_);
  if (!message) {
    nursery_->explain_end();
    throw Error("the sealed model broke the process that ran it", kCannotSeal);
  }
  if (message->kind == kFailed && message->bytes.size() >= sizeof(int32_t)) {
    int32_t code;
    std::memcpy(&code, message->bytes.data(), sizeof code);
    // The runner's word on what went wrong; 0 would be a success.
    const bool known = code == kOutOfMemory || code == kCannotSeal;
    throw Error(plain({message->bytes.begin() + sizeof code, message->bytes.end()}),
                known ? code : kError);
  }
  if (message->kind != kind) throw Error("a runner broke the protocol", kCannotSeal);
  return message->bytes;
}

const Runner::Shape& Runner::shape() {
  if (shape_.rows > 0) return shape_;
  int64_t hello[4];
  const std::vector<char> bytes = receive(kHello);
  if (bytes.size() != sizeof hello) throw Error("a runner broke the protocol", kCannotSeal);
  std::memcpy(hello, bytes.data(), sizeof hello);
  const int64_t most[3] = {kMostScoringRows, 1 << 20, 1 << 20};  // they decide what is allocated
  for (int i = 0; i < 3; i++)
    if (hello[i] < 1 || hello[i] > most[i]) throw Error("a runner broke the protocol", kCannotSeal);
  shape_ = {hello[0], hello[1], hello[2]};
  keeps_logits_ = hello[3] != 0;
  return shape_;
}

void Runner::share_memory() {
  const int64_t rows = keeps_logits_ ? 1 : shape().rows;
  memory_ =
      std::make_unique<Mapping>(static_cast<size_t>(rows * shape_.seq_len * shape_.vocab_size * 4));
  send_descriptor(socket_, memory_->fd, memory_->size);
}

// Sends; if the runner has ended, its last message tells why.
void Runner::ask(uint32_t kind, const void* data, size_t size) {
  try {
    send_message(socket_, static_cast<Kind>(kind), data, size);
  } catch (const Error&) {
    receive(kAnswer);
    throw;
  }
}

void Runner::begin(const std::vector<uint16_t>& ids) {
  ask(kRun, ids.data(), ids.size() * sizeof ids[0]);
}

void Runner::finish() { receive(kAnswer); }

at::Tensor Runner::logits(int64_t place) {
  if (keeps_logits_) {
    ask(kRow, &place, sizeof place);
    receive(kAnswer);
    place = 0;
  }
  const int64_t row = shape_.seq_len * shape_.vocab_size;
  at::Tensor copy = at::empty({shape_.seq_len, shape_.vocab_size}, at::kFloat);
  std::memcpy(copy.mutable_data_ptr(), static_cast<const float*>(memory_->data) + place * row,
              static_cast<size_t>(row) * sizeof(float));
  return copy;
}

at::Tensor Runner::nats(const std::vector<int64_t>& places, const at::Tensor& targets) {
  at::Tensor result = at::empty(targets.sizes(), at::kDouble);
  std::vector<int64_t> numbers = {static_cast<int64_t>(places.size())};
  numbers.insert(numbers.end(), places.begin(), places.end());
  const int64_t* from = targets.const_data_ptr<int64_t>();
  numbers.insert(numbers.end(), from, from + targets.numel());
  ask(kNats, numbers.data(), numbers.size() * sizeof numbers[0]);
  const std::vector<char> bytes = receive(kNats);
  if (bytes.size() != result.nbytes()) throw Error("a runner broke the protocol", kCannotSeal);
  std::memcpy(result.mutable_data_ptr(), bytes.data(), bytes.size());
  return result;
}

}  // namespace autoresearch
