def screen_files(parties, files):
    return {}
