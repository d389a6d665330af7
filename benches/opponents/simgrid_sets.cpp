// The campaign by SimGrid: an actor a set, which sleeps through its freezes and gaps, on one host.
//
// Settings: stacks of 16 KiB without guard pages, since as many of the usual 8 MiB do not fit; nothing is logged. Seconds are
// doubles in SimGrid; all instants here are whole ms, rounded back to them. Its clock goes on over the engines of a process.
#include <cmath>
#include <cstdint>
#include <random>
#include <simgrid/s4u.hpp>
#include <string>

namespace sg4 = simgrid::s4u;

namespace {

constexpr int DOMAINS = 5, SET_SIZE = 20, REGIONS = 10;

struct Campaign {
    int64_t region_vms, freeze_ms, gap_ms;
    double mu, sigma; // sigma < 0: all lengths are freeze_ms
    double origin_s;
    int64_t *start_ms;
    uint32_t *duration_ms;
    std::mt19937_64 random{7};
    std::lognormal_distribution<double> lengths{mu, sigma < 0 ? 1.0 : sigma};
    int64_t left[REGIONS] = {};

    int64_t draw() { return sigma < 0 ? freeze_ms : std::llrint(lengths(random)); }

    void start(int region) {
        left[region] = region_vms / SET_SIZE;
        for (int64_t first = region * region_vms; first < (region + 1) * region_vms; first += SET_SIZE)
            sg4::Actor::create("set", sg4::Host::by_name("host"), [this, region, first] { walk(region, first); });
    }

    void walk(int region, int64_t first) {
        for (int domain = 0; domain < DOMAINS; domain++) {
            if (domain) sg4::this_actor::sleep_for(gap_ms / 1000.0);
            int64_t longest_ms = 0, now_ms = std::llrint((sg4::Engine::get_clock() - origin_s) * 1000);
            for (int64_t vm = first + domain; vm < first + SET_SIZE; vm += DOMAINS) {
                int64_t length_ms = draw();
                start_ms[vm] = now_ms;
                duration_ms[vm] = length_ms;
                longest_ms = std::max(longest_ms, length_ms);
            }
            sg4::this_actor::sleep_for(longest_ms / 1000.0);
        }
        if (--left[region] == 0 && region % 2 == 0) start(region + 1);
    }
};

} // namespace

// Writes start_ms[vms] and duration_ms[vms]. Returns 0.
extern "C" int run(int64_t vms, int64_t freeze_ms, int64_t gap_ms, double mu, double sigma, int64_t *start_ms,
                   uint32_t *duration_ms) {
    int count = 5;
    const char *words[] = {"benches", "--cfg=contexts/stack-size:16", "--cfg=contexts/guard-size:0",
                           "--log=root.thresh:critical", "--log=no_loc", nullptr};
    sg4::Engine engine(&count, const_cast<char **>(words));
    auto *zone = sg4::create_full_zone("zone");
    zone->create_host("host", 1e9);
    zone->seal();
    Campaign campaign{vms / REGIONS, freeze_ms, gap_ms, mu, sigma, sg4::Engine::get_clock(), start_ms, duration_ms};
    for (int region = 0; region < REGIONS; region += 2) campaign.start(region);
    engine.run();
    return 0;
}
