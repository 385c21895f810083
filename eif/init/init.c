/*
 * PID 1 of the enclave: makes the machine ready, starts one program without privileges, waits.
 *
 * Own system calls and no C library, so the binary depends on this file and the compiler alone; a
 * few kilobytes that a reader can check. Whatever fails ends the enclave: there is nobody inside to
 * ask, and a parent that sees it vanish starts another. It reads nothing from the parent but one
 * byte of the heartbeat.
 *
 * Order: file systems, loopback, entropy, heartbeat, program. Sources: syscalls(2) and the pages
 * named there; heartbeat as aws-nitro-enclaves-sdk-bootstrap does it; NSM messages as in
 * linux/nsm.h and aws-nitro-enclaves-nsm-api.
 */
#include <asm/ioctl.h>
#include <asm/unistd.h>
#include <linux/capability.h>
#include <linux/fcntl.h>
#include <linux/mount.h>
#include <linux/prctl.h>
#include <linux/random.h>
#include <linux/reboot.h>
#include <linux/resource.h>
#include <linux/types.h>

#define USER 1000                     /* of the program; it owns no file of the image */
#define OPEN_FILES 4096               /* 256 calls with a connection each, and room */
#define PARENT_CID 3
#define HEARTBEAT_PORT 9000
#define HEARTBEAT 0xb7
#define RANDOM_BYTES 256              /* what one GetRandom of the NSM holds */
#define NSM_RESPONSE_BYTES 0x3000     /* NSM_RESPONSE_MAX_SIZE of the driver */

/* The program, and with it everything that selects its devices, addresses and configuration. */
static char *const program[] = {
    "/usr/bin/python3.11", "-I", "-B", "-m", "latensgate_enclave",
    "--nsm", "/dev/nsm", "--egress", "vsock:3:8443", "--listen", "vsock:any:5005",
    "--config", "/etc/latensgate", 0,
};
static char *const environment[] = {0};

/* ---- system calls (x86-64) ---- */

static long call(long number, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result; /* below zero: -errno */
}

#define CALL1(n, a) call(__NR_##n, (long)(a), 0, 0, 0, 0)
#define CALL2(n, a, b) call(__NR_##n, (long)(a), (long)(b), 0, 0, 0)
#define CALL3(n, a, b, c) call(__NR_##n, (long)(a), (long)(b), (long)(c), 0, 0)
#define CALL4(n, a, b, c, d) call(__NR_##n, (long)(a), (long)(b), (long)(c), (long)(d), 0)
#define CALL5(n, a, b, c, d, e) \
    call(__NR_##n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e))

/* The compiler may call these two for what looks like them. */
void *memset(void *to, int value, unsigned long count)
{
    for (volatile char *at = to; count; count--)
        *at++ = (char)value;
    return to;
}

void *memcpy(void *to, const void *from, unsigned long count)
{
    volatile char *at = to;
    for (const char *source = from; count; count--)
        *at++ = *source++;
    return to;
}

/* ---- words on the console, which exists in debug mode and under emulation only ---- */

static void say(const char *text)
{
    unsigned long length = 0;
    while (text[length])
        length++;
    CALL3(write, 2, text, length);
}

static void __attribute__((noreturn)) end(void)
{
    CALL4(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART, 0);
    for (;;)
        CALL1(exit_group, 1); /* of PID 1: the kernel panics, and that reboots, too */
}

static void __attribute__((noreturn)) fail(const char *what)
{
    say("init: failed: ");
    say(what);
    say("\n");
    end();
}

static long need(long result, const char *what)
{
    if (result < 0)
        fail(what);
    return result;
}

/* Say what a file of sysfs holds: which clock and which source of entropy the kernel has chosen. */
static void say_file(const char *label, const char *path)
{
    char text[64];
    long file = CALL3(open, path, O_RDONLY | O_CLOEXEC, 0);
    long length = file < 0 ? 0 : CALL3(read, file, text, sizeof(text) - 1);

    say(label);
    text[length > 0 ? length : 0] = 0;
    say(length > 0 ? text : "unknown\n");
    if (file >= 0)
        CALL1(close, file);
}

/* ---- the steps ---- */

static void mount_on(const char *kind, const char *where, long flags, const char *options)
{
    need(CALL5(mount, kind, where, kind, flags, options), where);
}

static void mount_all(void)
{
    const long plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;

    mount_on("devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755");
    mount_on("proc", "/proc", plain, "hidepid=2");
    mount_on("sysfs", "/sys", plain | MS_RDONLY, 0);
    mount_on("tmpfs", "/tmp", plain, "size=4m,nr_inodes=256,mode=1777");
}

/* The root holds what was measured and nothing else from here on. */
static void seal_root(void)
{
    need(CALL5(mount, 0, "/", 0, MS_REMOUNT | MS_RDONLY | MS_NOSUID, 0), "root read-only");
}

static void loopback_up(void)
{
    struct {
        char name[16];
        short flags;
        char rest[22];
    } request = {.name = "lo", .flags = 1 | 0x40}; /* IFF_UP, IFF_RUNNING */
    long udp = need(CALL3(socket, 2 /* AF_INET */, 2 /* SOCK_DGRAM */, 0), "socket for loopback");

    need(CALL3(ioctl, udp, 0x8914 /* SIOCSIFFLAGS */, &request), "loopback");
    CALL1(close, udp);
}

struct nsm_slice {
    __u64 address;
    __u64 length;
};

static __u8 answer[NSM_RESPONSE_BYTES];

/*
 * The kernel feeds itself from the NSM, too, in its own time. Nothing may ask for a random number
 * before this, so it is done here and counted: 256 bytes of the answer are the NSM's.
 */
static void seed(void)
{
    static const char request[] = "\x69GetRandom"; /* CBOR: a text of nine bytes */
    static const char start[] = "\xa1\x69GetRandom";
    static struct {
        struct rand_pool_info info;
        __u8 bytes[NSM_RESPONSE_BYTES];
    } pool;
    struct {
        struct nsm_slice request;
        struct nsm_slice response;
    } message = {
        {(__u64)request, sizeof(request) - 1},
        {(__u64)answer, sizeof(answer)},
    };
    long nsm = need(CALL3(open, "/dev/nsm", O_RDWR | O_CLOEXEC, 0), "/dev/nsm");
    long random = need(CALL3(open, "/dev/urandom", O_RDWR | O_CLOEXEC, 0), "/dev/urandom");

    need(CALL3(ioctl, nsm, _IOWR(0x0a, 0, message), &message), "GetRandom");
    if (message.response.length < RANDOM_BYTES || message.response.length > sizeof(answer))
        fail("GetRandom: length");
    for (unsigned long at = 0; at < sizeof(start) - 1; at++)
        if (answer[at] != (__u8)start[at])
            fail("GetRandom: an error of the NSM");
    pool.info.entropy_count = RANDOM_BYTES * 8;
    pool.info.buf_size = (int)message.response.length;
    memcpy(pool.bytes, answer, message.response.length);
    need(CALL3(ioctl, random, RNDADDENTROPY, &pool), "entropy");
    memset(&pool, 0, sizeof(pool));
    memset(answer, 0, sizeof(answer));
    CALL1(close, random);
    CALL1(close, nsm);
}

/* nitro-cli waits for this before it says that the enclave has started. */
static void heartbeat(void)
{
    struct {
        __u16 family;
        __u16 reserved;
        __u32 port;
        __u32 cid;
        __u32 zero;
    } parent = {40 /* AF_VSOCK */, 0, HEARTBEAT_PORT, PARENT_CID, 0};
    __u8 beat = HEARTBEAT;
    long link = need(CALL3(socket, parent.family, 1 /* SOCK_STREAM */, 0), "socket of vsock");

    need(CALL3(connect, link, &parent, sizeof(parent)), "heartbeat: connect");
    if (CALL3(write, link, &beat, 1) != 1 || CALL3(read, link, &beat, 1) != 1 || beat != HEARTBEAT)
        fail("heartbeat: no answer");
    CALL1(close, link);
}

static void limit(int what, unsigned long most)
{
    struct rlimit64 both = {most, most};
    need(CALL4(prlimit64, 0, what, &both, 0), "limit");
}

static void drop_privileges(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}};

    for (long capability = 0; CALL2(prctl, PR_CAPBSET_READ, capability) >= 0; capability++)
        need(CALL2(prctl, PR_CAPBSET_DROP, capability), "bounding set");
    need(CALL2(setgroups, 0, 0), "groups");
    need(CALL3(setresgid, USER, USER, USER), "group");
    need(CALL3(setresuid, USER, USER, USER), "user");
    need(CALL2(capset, &header, none), "capabilities");
    need(CALL5(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges");
}

static void __attribute__((noreturn)) run(void)
{
    long nothing = need(CALL3(open, "/dev/null", O_RDONLY, 0), "/dev/null");

    need(CALL2(dup2, nothing, 0), "standard input");
    CALL1(close, nothing);
    CALL1(umask, 077);
    CALL1(setsid, 0);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_NOFILE, OPEN_FILES);
    drop_privileges();
    CALL3(execve, program[0], program, environment);
    fail(program[0]);
}

static void __attribute__((noreturn, used)) start(void)
{
    long child, ended;

    mount_all();
    loopback_up();
    seed();
    say_file("init: clock: ", "/sys/devices/system/clocksource/clocksource0/current_clocksource");
    say_file("init: entropy: ", "/sys/class/misc/hw_random/rng_current");
    seal_root();
    heartbeat();
    child = need(CALL5(clone, 17 /* SIGCHLD, otherwise as fork */, 0, 0, 0, 0), "fork");
    if (child == 0)
        run();
    do
        ended = CALL4(wait4, -1, 0, 0, 0); /* whoever lost its parent is ours, too */
    while (ended != child);
    say("init: the program has ended\n");
    end();
}

/* The kernel enters with an aligned stack and no return address; a function expects one. */
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tcall start\n");
