#include "common/lockdown.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "common/error.h"

namespace autoresearch {
namespace {

#if defined(__x86_64__)
constexpr unsigned kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr unsigned kArchitecture = AUDIT_ARCH_AARCH64;
#else
constexpr unsigned kArchitecture = 0;
#endif

// clone() is allowed for threads, by its flags; clone3(), whose flags a filter can't read, is not,
// so that the C library falls back to clone().
constexpr unsigned kAllowed[] = {
    SYS_read,          SYS_write,           SYS_readv,        SYS_writev,
    SYS_recvfrom,      SYS_recvmsg,         SYS_sendto,       SYS_sendmsg,
    SYS_shutdown,      SYS_close,           SYS_ppoll,        SYS_mmap,
    SYS_munmap,        SYS_mremap,          SYS_mprotect,     SYS_madvise,
    SYS_brk,           SYS_membarrier,      SYS_futex,        SYS_set_robust_list,
    SYS_rseq,          SYS_set_tid_address, SYS_sched_yield,  SYS_sched_getaffinity,
    SYS_rt_sigaction,  SYS_rt_sigprocmask,  SYS_rt_sigreturn, SYS_sigaltstack,
    SYS_gettid,        SYS_getpid,          SYS_exit,         SYS_exit_group,
    SYS_clock_gettime, SYS_clock_nanosleep, SYS_nanosleep,    SYS_gettimeofday,
    SYS_getrandom,     SYS_getcpu,          SYS_getrusage,    SYS_restart_syscall,
    SYS_uname,
#ifdef SYS_poll
    SYS_poll,
#endif
};

std::vector<sock_filter> filter() {
  constexpr auto load = [](size_t offset) {
    return sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<unsigned>(offset));
  };
  constexpr auto answer = [](unsigned value) {
    return sock_filter BPF_STMT(BPF_RET | BPF_K, value);
  };
  std::vector<sock_filter> code = {
      load(offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0),
      answer(SECCOMP_RET_KILL_PROCESS),
      load(offsetof(seccomp_data, nr)),
  };
  for (const unsigned call : kAllowed) {
    code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
    code.push_back(answer(SECCOMP_RET_ALLOW));
  }
  code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 0, 1));
  code.push_back(answer(SECCOMP_RET_ERRNO | ENOSYS));
  code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 3));
  code.push_back(
      load(offsetof(seccomp_data, args)));  // the flags' low half: both are little-endian
  code.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1));
  code.push_back(answer(SECCOMP_RET_ALLOW));
  code.push_back(answer(SECCOMP_RET_ERRNO | EPERM));
  return code;
}

}  // namespace

void lock_down() {
  std::vector<sock_filter> code = filter();
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  const bool done =
      kArchitecture != 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
  check(done, std::string("the kernel takes no system-call filter: ") + std::strerror(errno));
}

}  // namespace autoresearch
