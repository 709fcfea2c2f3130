"""A federation under load and under attack: many virtual contributors against real gateways, a store and an aggregator.

    attacks     what hostile contributors send, as pure functions over what benign ones send
    plan        who does what in which round: speeds, crashes, late and hostile ones, all from one seed
    deltas      made-up deltas of a real one's scale, and the files and manifests that carry them
    visit       one contributor's way through a round, up to where it crashes
    crowd       many visits, each when it is due, from a few processes
    servers     gateways and an aggregator as processes, with their memory and store operations over time
    audit       what the store says afterwards: every acknowledged contribution, its verdicts, and files
    load        all of these together, and the report

No contributor trains: what a federation takes is measured, not what training takes. `coldfuse simulate --data` trains
for real; that is `experiments.adversaries`, which has the attacks from here.
"""
