#include "common/seccomp.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "common/error.h"

namespace autoresearch {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
#error "the sandbox's filter knows x86_64 and aarch64"
#endif

constexpr uint32_t kFirstUnknown = 463;  // setxattrat, the first of Linux 6.13

constexpr uint32_t kRefused[] = {
    // Reaching into another process, the sandbox's init above all.
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_pidfd_getfd,
    SYS_kcmp,
    // Doors to large parts of the kernel that a training needs nothing of.
    SYS_userfaultfd,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_fanotify_init,
    // Keyrings, which outlive a process.
    SYS_keyctl,
    SYS_add_key,
    SYS_request_key,
    // Memory that neither a process's size nor the size of a file system shows.
    SYS_memfd_secret,
    SYS_shmget,
    SYS_msgget,
    SYS_semget,
    SYS_mq_open,
    // Namespaces and mounts: the sandbox's are final.
    SYS_unshare,
    SYS_setns,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    // The machine itself. No capability for these is left either.
    SYS_kexec_load,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_quotactl,
    SYS_quotactl_fd,
    SYS_syslog,
    SYS_vhangup,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_kexec_file_load,
#ifdef __x86_64__
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
#endif
};

// Marks on files that are the machine's: the nodes in /dev are its own, and root's in a sandbox of
// root's. A compiler needs some of these for what it writes.
constexpr uint32_t kMarks[] = {
    SYS_fchmod,    SYS_fchmodat,    452 /* fchmodat2 */, SYS_fchown,
    SYS_fchownat,  SYS_utimensat,   SYS_setxattr,        SYS_lsetxattr,
    SYS_fsetxattr, SYS_removexattr, SYS_lremovexattr,    SYS_fremovexattr,
#ifdef __x86_64__
    SYS_chmod,     SYS_chown,       SYS_lchown,          SYS_utime,
    SYS_utimes,    SYS_futimesat,
#endif
};

// The same for files that are open, though only to be read.
constexpr uint32_t kMarksOfOpenFiles[] = {FS_IOC_SETFLAGS, FS_IOC_SETVERSION, FS_IOC_FSSETXATTR,
                                          FS_IOC_ENABLE_VERITY};

// What namespaces would otherwise keep away from other processes of the user, and the ways out of a
// group. A socket of any family could reach a service of the machine's.
constexpr uint32_t kAmongOthers[] = {
    SYS_socket,
    SYS_socketpair,
    SYS_setsid,
    SYS_setpgid,
    SYS_setpriority,
    SYS_ioprio_set,
    SYS_truncate,
    SYS_inotify_add_watch,
    SYS_sched_setattr,
    SYS_sched_setparam,
    SYS_sched_setscheduler,
    SYS_sched_setaffinity,
    SYS_shmat,
    SYS_shmctl,
    SYS_msgsnd,
    SYS_msgrcv,
    SYS_msgctl,
    SYS_semop,
    SYS_semtimedop,
    SYS_semctl,
    SYS_mq_unlink,
};

constexpr uint32_t kSignals[] = {SYS_kill,
                                 SYS_tkill,
                                 SYS_tgkill,
                                 SYS_rt_sigqueueinfo,
                                 SYS_rt_tgsigqueueinfo,
                                 SYS_pidfd_send_signal};

constexpr uint32_t kNewNamespace = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET |
                                   CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;

// All that a process which is locked down may still call. Threads are allowed by clone()'s flags.
constexpr uint32_t kAllowed[] = {
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

sock_filter load(size_t offset) {
  return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset));
}
// Skips so many instructions if the comparison with the loaded value holds, else so many.
sock_filter jump(uint16_t comparison, uint32_t value, uint8_t if_true, uint8_t if_false) {
  return BPF_JUMP(static_cast<uint16_t>(BPF_JMP | comparison | BPF_K), value, if_true, if_false);
}
sock_filter end(uint32_t action) { return BPF_STMT(BPF_RET | BPF_K, action); }
sock_filter fail(int error) { return end(SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)); }

// The lower half of a call's argument: both architectures are little-endian.
sock_filter load_argument(size_t i) { return load(offsetof(seccomp_data, args) + 8 * i); }

// A filter's instructions. Each answer looks at the call's number alone, unless a comment says
// more.
class Filter {
 public:
  Filter() {
    // The numbers mean what they say on one architecture only.
    add({load(offsetof(seccomp_data, arch)), jump(BPF_JEQ, kArchitecture, 1, 0),
         end(SECCOMP_RET_KILL_PROCESS), load(offsetof(seccomp_data, nr))});
    // Of a call that came after these lists were written nobody knows what it opens. Programs take
    // an older one where it is missing. The calls of x32 have higher numbers too.
    add({jump(BPF_JGE, kFirstUnknown, 0, 1), fail(ENOSYS)});
    // Its flags lie in memory, which a filter can't read; glibc then takes clone, whose flags it
    // can.
    answer(SYS_clone3, fail(ENOSYS));
  }

  void add(std::initializer_list<sock_filter> more) { code_.insert(code_.end(), more); }
  void answer(uint32_t call, sock_filter with) { add({jump(BPF_JEQ, call, 0, 1), with}); }
  void answer(std::span<const uint32_t> calls, sock_filter with) {
    for (const uint32_t call : calls) answer(call, with);
  }
  // Only if the call's argument `i` has any of these bits (BPF_JSET), or is this number (BPF_JEQ).
  void answer(uint32_t call, size_t i, uint16_t comparison, uint32_t bits, sock_filter with) {
    add({jump(BPF_JEQ, call, 0, 4), load_argument(i), jump(comparison, bits, 0, 1), with,
         load(offsetof(seccomp_data, nr))});
  }
  std::vector<sock_filter>& code() { return code_; }

 private:
  std::vector<sock_filter> code_;
};

}  // namespace

std::string seccomp_filter(const FilterOptions& options) {
  Filter filter;
  const sock_filter allow = end(SECCOMP_RET_ALLOW), refuse = fail(EPERM);
  filter.answer(kRefused, refuse);
  if (!options.may_mark_files) {
    filter.answer(kMarks, refuse);
    for (const uint32_t mark : kMarksOfOpenFiles)
      filter.answer(SYS_ioctl, 1, BPF_JEQ, mark, refuse);
  }
  filter.answer(SYS_clone, 0, BPF_JSET, kNewNamespace, refuse);
  // Whoever opens a leased file waits for its holder, as the parent would.
  filter.answer(SYS_fcntl, 1, BPF_JEQ, F_SETLEASE, refuse);
  if (options.among_others) {
    filter.answer(kAmongOthers, refuse);
    filter.answer(SYS_prlimit64, 0, BPF_JSET, ~0U, refuse);  // of another process
  }
  if (!options.may_signal) {
    filter.answer(kSignals, refuse);
    // A pipe or a socket signals its owner, whoever that is said to be.
    for (const uint32_t owner : {F_SETOWN, F_SETOWN_EX})
      filter.answer(SYS_fcntl, 1, BPF_JEQ, owner, refuse);
    for (const uint32_t owner : {FIOSETOWN, SIOCSPGRP})
      filter.answer(SYS_ioctl, 1, BPF_JEQ, owner, refuse);
  }
  filter.add({allow});
  const auto& code = filter.code();
  return {reinterpret_cast<const char*>(code.data()), code.size() * sizeof(sock_filter)};
}

void lock_down() {
  Filter filter;
  const sock_filter allow = end(SECCOMP_RET_ALLOW);
  filter.answer(kAllowed, allow);
  filter.answer(SYS_clone, 0, BPF_JSET, CLONE_THREAD, allow);
  filter.add({fail(EPERM)});
  auto& code = filter.code();
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  const bool done =
      prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
  check(done, std::string("the kernel takes no system-call filter: ") + std::strerror(errno));
}

}  // namespace autoresearch
